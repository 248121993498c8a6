"""The bare script: a generation from submit to settled with asyncpg, redis and httpx and nothing of ours but the SQL.

The same, so that the ratio means something:
- every SQL statement on the way, read from our `.sql` files, in the same transactions, the same batches of claims and
  with the same arguments, on a migrated database of the same server: triggers, constraints, ledger, receipts and all;
- the same HTTP calls to the same gateway process (POST /run with webhook and policy, GET /status), the same webhook
  taken in, and the same submits from the same load (once more without that door: see `people`);
- one Redis message for each bell, and one publish for each change that live pages are told of.

Not the same, and nearly all of it in the bare script's favour:
- one process and one loop, where ours are an API and a worker on two cores (this one speaks against the script);
- no authentication (the bearer is the person), no validation, no routing, no middleware, no request ids, no logs, no
  metrics, no signed webhook capability, no dataclasses, no place in line (a few reads a second);
- no recovery: no leases renewed or swept, no retries, no rate limits of its own, no audits, no idle rounds;
- its bell is one LPUSH and one BLPOP where arq's job takes WATCH, EXISTS, MULTI … EXEC on both sides and polls;
- all its connections are open from the start and lie on a stack, where ours come from asyncpg's pools;
- a shorter reply to the person.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
import orjson
import redis.asyncio
import uvloop

from tests.bench import bare_steps as steps
from tests.bench.bare_http import Connection, Request
from tests.bench.bare_steps import Connections, Row
from tests.bench.load import BODY, Order, Outcome

BATCH = 50
CONNECTIONS = 20  # as many as the pools of our API and worker together
BELL = "bare:bell"
NEWS = "bare:events"
POLICY = {"executionTimeout": 900_000, "ttl": 1_860_000}

Claim = Callable[[], Awaitable[Sequence[Row]]]
Work = Callable[[Sequence[Row]], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Told:
    """What the script is told on its command line, as JSON."""

    port: int
    database_url: str
    redis_url: str
    runpod_url: str
    runpod_key: str
    endpoint_id: str


@dataclass(slots=True)
class Script:
    """Everything that is open, and the two bells inside the process."""

    told: Told
    connections: Connections
    redis: "redis.asyncio.Redis"
    http: httpx.AsyncClient
    submits: asyncio.Event = field(default_factory=asyncio.Event)
    polls: asyncio.Event = field(default_factory=asyncio.Event)
    finishes: asyncio.Event = field(default_factory=asyncio.Event)

    # The door

    async def handle(self, request: Request) -> tuple[int, bytes]:
        """Submits, webhooks, and the order to be the people oneself."""
        if request.path == "/v1/generations":
            user_id = request.headers["authorization"].removeprefix("Bearer ")
            return 202, await self.submit(user_id, request.headers["idempotency-key"], request.body)
        if request.path.startswith("/webhooks/"):
            _, _, generation_id, attempt = request.path.split("/")
            await self.take_note(UUID(generation_id), int(attempt), request.body)
            return 200, b'{"received":true}'
        if request.path == "/people":
            return 200, orjson.dumps(asdict(await self.people(Order(**orjson.loads(request.body)))))
        return (200, b"{}") if request.path == "/readyz" else (404, b"{}")

    async def submit(self, user_id: str, key: str, body: bytes) -> bytes:
        """One submit: the transaction, then the bell and the news."""
        async with self.connections.one() as connection:
            generation, reply = await steps.submit(connection, user_id, key, body)
        await asyncio.gather(self.ring(generation), self.announce(generation))
        return reply

    async def take_note(self, generation_id: UUID, attempt: int, body: bytes) -> None:
        """One webhook: the transaction, then the bell and the news."""
        async with self.connections.one() as connection:
            hurried = await steps.take_note(connection, generation_id, attempt, body)
        if hurried is not None:
            await asyncio.gather(self.ring(hurried), self.announce(hurried))

    async def people(self, order: Order) -> Outcome:
        """As the load, but without HTTP in between: the people are coroutines here."""
        numbers, latencies = iter(range(order.count)), list[float]()
        body = orjson.dumps(BODY)

        async def be_a_person(user_id: str, numbers: Iterator[int]) -> None:
            for _ in numbers:
                asked = time.perf_counter()
                await self.submit(user_id, uuid4().hex, body)
                latencies.append((time.perf_counter() - asked) * 1000)

        began_at = time.time()
        async with asyncio.TaskGroup() as group:
            for user_id in order.bearers:
                group.create_task(be_a_person(user_id, numbers))
        return Outcome(began_at, latencies, 0.0)

    # Redis

    async def ring(self, generation: Row) -> None:
        """Say that there is work."""
        await cast("Awaitable[int]", self.redis.lpush(BELL, f"{generation['id']}:{generation['version']}"))

    async def announce(self, *generations: Row) -> None:
        """Tell live pages."""
        news = [{"user_id": g["user_id"], "generation_id": str(g["id"]), "version": g["version"]} for g in generations]
        await self.redis.publish(NEWS, orjson.dumps(news))

    async def answer_bells(self) -> None:
        """Every bell wakes the rounds."""
        while True:
            await cast("Awaitable[list[bytes]]", self.redis.blpop([BELL], timeout=0))
            self.submits.set()
            self.polls.set()

    # The rounds

    async def go_round(self, bell: asyncio.Event, claim: Claim, work: Work) -> None:
        """Claim batches while there are full ones, each worked on in a task of its own; a failure ends the script."""
        async with asyncio.TaskGroup() as batches:
            while True:
                await bell.wait()
                bell.clear()
                more = True
                while more:
                    claimed = await claim()
                    more = len(claimed) == BATCH
                    if claimed:
                        batches.create_task(work(claimed))

    async def claim_reserved(self) -> Sequence[Row]:
        """reserved → submitting."""
        async with self.connections.one() as connection:
            claimed = await steps.claim_reserved(connection, BATCH, self.told.endpoint_id)
        if claimed:
            await self.announce(*claimed)
        return claimed

    async def claim_polls(self) -> Sequence[Row]:
        """Lease what is to be asked about."""
        async with self.connections.one() as connection:
            return await steps.claim_polls(connection, BATCH, self.told.endpoint_id)

    async def claim_due(self) -> Sequence[Row]:
        """Lease what is to be settled."""
        async with self.connections.one() as connection:
            return await steps.claim_due(connection, "finish", BATCH)

    async def send_all(self, claimed: Sequence[Row]) -> None:
        """POST /run for each, side by side."""
        await asyncio.gather(*(self.send(generation) for generation in claimed))
        self.polls.set()

    async def send(self, generation: Row) -> None:
        """submitting → submitted."""
        webhook = f"http://127.0.0.1:{self.told.port}/webhooks/{generation['id']}/{generation['attempt']}"
        wanted = {"prompt": generation["prompt"], "batch_size": generation["batch_size"], **generation["parameters"]}
        asked = orjson.dumps({"input": wanted, "webhook": webhook, "policy": POLICY})
        reply = await self.http.post(f"/{self.told.endpoint_id}/run", content=asked)
        async with self.connections.one() as connection:
            moved = await steps.record_submitted(connection, generation, orjson.loads(reply.content)["id"])
        if moved is not None:
            await self.announce(moved)

    async def ask_all(self, claimed: Sequence[Row]) -> None:
        """GET /status for each, side by side."""
        await asyncio.gather(*(self.ask(generation) for generation in claimed))
        self.finishes.set()

    async def ask(self, generation: Row) -> None:
        """submitted → finishing."""
        reply = await self.http.get(f"/{self.told.endpoint_id}/status/{generation['remote_id']}")
        async with self.connections.one() as connection:
            moved = await steps.record_finishing(connection, generation, reply.content)
        if moved is not None:
            await self.announce(moved)

    async def settle_all(self, claimed: Sequence[Row]) -> None:
        """finishing → completed for each, side by side."""
        await asyncio.gather(*(self.settle(generation) for generation in claimed))

    async def settle(self, generation: Row) -> None:
        """One settlement."""
        async with self.connections.one() as connection:
            settled = await steps.settle(connection, generation)
        if settled is not None:
            await self.announce(settled)

    async def run(self) -> None:
        """Serve and go round until cancelled."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(self.handle), "127.0.0.1", self.told.port)
        async with server, asyncio.TaskGroup() as group:
            group.create_task(self.answer_bells())
            group.create_task(self.go_round(self.submits, self.claim_reserved, self.send_all))
            group.create_task(self.go_round(self.polls, self.claim_polls, self.ask_all))
            group.create_task(self.go_round(self.finishes, self.claim_due, self.settle_all))


async def serve(told: Told) -> None:
    """Open everything, run until SIGTERM, close everything."""
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=200, keepalive_expiry=4)
    async with (
        steps.connect(told.database_url, size=CONNECTIONS) as connections,
        redis.asyncio.Redis.from_url(told.redis_url) as bell,
        httpx.AsyncClient(
            base_url=told.runpod_url,
            headers={"authorization": f"Bearer {told.runpod_key}"},
            trust_env=False,
            limits=limits,
        ) as http,
    ):
        running = asyncio.create_task(Script(told, connections, bell, http).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.wait({running})
        if not running.cancelled():
            await running


def main() -> None:
    """Read what we are told and run."""
    told = Told(**orjson.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(told))


if __name__ == "__main__":
    main()
