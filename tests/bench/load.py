"""The load: some people who each send one submit after the other over HTTP. A process of its own.

`python -m tests.bench.load ORDER.json` prints what happened as one line of JSON. Every person has one connection and
sends an Idempotency-Key with each submit, as a serious front end does. Nobody waits for a generation to end: whoever
measures looks for that in Postgres.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import orjson

TIMEOUT_SECONDS = 30
BODY = {"type": "text", "prompt": "A short text about the sea, please.", "batch_size": 1, "parameters": {"seed": 7}}


@dataclass(frozen=True, slots=True)
class Order:
    """Where to send how many submits, in whose names: each bearer is one person."""

    url: str
    bearers: Sequence[str]
    count: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """When it began (seconds since 1970), how long every submit took, and what the load itself used."""

    began_at: float
    latencies_ms: Sequence[float]
    cpu_seconds: float


class Refused(Exception):
    """A submit was not accepted."""


async def send_all(order: Order) -> Outcome:
    """Send everything; raises Refused at the first submit that is not a 202."""
    numbers = iter(range(order.count))
    latencies: list[float] = []
    clients = [
        httpx.AsyncClient(
            base_url=order.url,
            headers={"authorization": f"Bearer {bearer}"},
            trust_env=False,
            verify=False,  # noqa: S501 - loopback without TLS: only spares loading the certificates
            timeout=TIMEOUT_SECONDS,
        )
        for bearer in order.bearers
    ]
    began_at, cpu = time.time(), time.process_time()
    async with asyncio.TaskGroup() as people:
        for client in clients:
            people.create_task(_be_a_person(client, numbers, latencies))
    used = time.process_time() - cpu
    await asyncio.gather(*(client.aclose() for client in clients))
    return Outcome(began_at, latencies, used)


async def _be_a_person(client: httpx.AsyncClient, numbers: Iterator[int], latencies: list[float]) -> None:
    for _ in numbers:
        asked = time.perf_counter()
        reply = await client.post("/v1/generations", json=BODY, headers={"idempotency-key": uuid4().hex})
        latencies.append((time.perf_counter() - asked) * 1000)
        if reply.status_code != httpx.codes.ACCEPTED:
            raise Refused(f"HTTP {reply.status_code}: {reply.text[:300]}")


def main() -> None:
    """Read the order, send, print the outcome."""
    order = Order(**orjson.loads(Path(sys.argv[1]).read_bytes()))
    try:
        outcome = asyncio.run(send_all(order))
    except* (Refused, httpx.HTTPError) as failures:
        first = next(itertools.chain(failures.exceptions))
        sys.exit(f"the load stopped: {type(first).__name__}: {first}")
    print(orjson.dumps(asdict(outcome)).decode())


if __name__ == "__main__":
    main()
