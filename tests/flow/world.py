"""A whole Social Twin in one process, moved by hand: the real API, the real steps, real Postgres and Valkey.

RunPod is the local platform behind its own HTTP door; nothing of ours is patched. Time passes by moving what is written
in the rows into the past, so that a story can wait for a deadline without sleeping.
"""

import base64
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from PIL import Image

from api.app import create_app
from api.settings import ApiSettings
from shared import ledger, plans
from shared.settings import read
from tests.ledger.invariants import assert_ledger_clean
from tests.local.issuer import ISSUER_URL, Issuer
from tests.local.runpod import door
from tests.local.runpod.clock import ManualClock
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import Rules
from worker import audit, finish, poll, stream, submit, sweep
from worker.context import Context
from worker.main import open_context
from worker.settings import WorkerSettings

PUBLIC_URL = "http://twin.localhost"
ENDPOINTS = ("text", "image", "modify", "video")
ADMIN = "user_admin"


def picture(colour: str = "teal", *, size: tuple[int, int] = (8, 8)) -> str:
    """A real PNG as a data URI, the way image workers return it."""
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def pictures(count: int) -> dict[str, Any]:
    """The output of an image endpoint."""
    return {"images": [picture() for _ in range(count)], "seed": 1}


def configuration(*, database_url: str, redis_url: str, storage: Path) -> dict[str, Any]:
    """What both processes are told in this world."""
    return {
        "mode": "local",
        "database_url": database_url,
        "redis_url": redis_url,
        "secret": "local:" + base64.b64encode(b"for tests only, of no use anywhere").decode(),
        "public_url": PUBLIC_URL,
        "storage_url": f"file://{storage}",
        "queue_name": f"twin:{uuid4().hex[:8]}",
    }


def worker_settings(configured: Mapping[str, Any], **changes: Any) -> WorkerSettings:
    """The worker's settings in this world."""
    endpoints = {} if "endpoints_file" in changes else {f"endpoint_{name}": name for name in ENDPOINTS}
    told = {"runpod_api_key": Rules().api_key, "runpod_base_url": "http://127.0.0.1/v2", **endpoints}
    return read(WorkerSettings, **{**configured, **told, **changes})


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in."""

    user_id: str
    http: httpx.AsyncClient


@dataclass
class World:
    """The API, one worker's steps, and RunPod, over one database."""

    context: Context
    app: FastAPI
    runpod: Platform
    clock: ManualClock
    issuer: Issuer
    stack: AsyncExitStack
    folder: Path
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def person(self, *, credits_granted: int = 100, user_id: str | None = None) -> Person:
        """A new person with credits, and a client that carries their session."""
        user_id = user_id or f"user_{uuid4().hex[:12]}"
        token, _ = self.issuer.token(user_id, authorized_party=PUBLIC_URL)
        http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=PUBLIC_URL,
            headers={"authorization": f"Bearer {token}"},
        )
        await self.stack.enter_async_context(http)
        await self.welcome(user_id, credits_granted=credits_granted)
        return Person(user_id, http)

    async def welcome(self, user_id: str, *, credits_granted: int, overdraft: int = 0) -> None:
        """Open an account, with credits."""
        async with self.context.pool.acquire() as connection, connection.transaction():
            await ledger.open_account(connection, user_id=user_id, overdraft_limit=overdraft)
            if credits_granted:
                await ledger.grant(
                    connection,
                    user_id=user_id,
                    key="welcome",
                    amount=credits_granted,
                    kind="promo",
                    source_ref="welcome",
                    actor="test",
                )

    async def limit(self, person: Person, max_in_flight: int | None, *, key: str = "limited") -> None:
        """Put somebody on a plan of their own that allows so many at once."""
        because: dict[str, Any] = {"key": key, "reason": "so many at a time", "actor": "test"}
        async with self.context.pool.acquire() as connection:
            terms = {"max_in_flight": max_in_flight}
            await plans.set_plan(connection, plan=person.user_id, terms=terms, **because)
            await plans.set_terms(connection, user_id=person.user_id, terms={"plan": person.user_id}, **because)

    async def ask(self, person: Person, **body: Any) -> UUID:
        """Submit a generation over HTTP, an image by default; it is reserved when this returns."""
        asked = {"type": "image", "prompt": f"picture number {next(self.numbers)}", **body}
        reply = await person.http.post("/v1/generations", json=asked)
        assert reply.status_code == 202, reply.text
        return UUID(reply.json()["id"])

    async def submitted(self, person: Person, **body: Any) -> UUID:
        """As `ask`, and RunPod has it."""
        generation_id = await self.ask(person, **body)
        await submit.submit_once(self.context)
        assert await self.state(generation_id) == "submitted"
        return generation_id

    async def finishing(self, person: Person, output: Any, **body: Any) -> UUID:
        """As `submitted`, and RunPod's COMPLETED answer is here."""
        generation_id = await self.submitted(person, **body)
        self.work_off(str(body.get("type", "image")), output)
        await self.poll_now()
        assert await self.state(generation_id) == "finishing"
        return generation_id

    def work_off(self, endpoint_id: str, output: Any) -> None:
        """The endpoint's workers finish everything that waits with this output."""
        self.runpod.work_off(endpoint_id, lambda _: output)

    async def poll_now(self) -> None:
        """Make every poll due, and poll."""
        await self.execute("UPDATE generations SET due_at = now() WHERE state IN ('submitted', 'running')")
        await poll.poll_once(self.context)

    async def settle_all(self) -> None:
        """Go round all steps until nothing moves: what the loops do, without the waiting."""
        for _ in range(10):
            moved = await submit.submit_once(self.context) + await sweep.sweep_once(self.context)
            moved += await poll.poll_once(self.context) + await stream.stream_once(self.context)
            moved += await finish.finish_once(self.context)
            if not moved:
                return

    async def work_off_all(self, endpoint_id: str) -> None:
        """What the endpoint has fails there, and is settled."""
        self.runpod.work_off(endpoint_id, lambda _: {"error": "test"})
        await self.poll_now()
        await finish.finish_once(self.context, limit=100)

    async def cancel_all(self) -> None:
        """Whatever is open is cancelled, so that the story ends."""
        await self.execute("UPDATE generations SET cancel_requested_at = now() WHERE due_at IS NOT NULL")
        while await self.value("SELECT count(*) FROM generations WHERE due_at IS NOT NULL"):
            await self.execute("UPDATE generations SET due_at = now(), lease_token = NULL WHERE due_at IS NOT NULL")
            await self.settle_all()

    async def pass_time(self, duration: timedelta) -> None:
        """Let time pass for every open row, and at RunPod."""
        self.clock.advance(duration.total_seconds())
        await self.execute(
            "UPDATE generations SET due_at = due_at - $1::interval, deadline_at = deadline_at - $1::interval, "
            "created_at = created_at - $1::interval, submitted_at = submitted_at - $1::interval, "
            "cancel_requested_at = cancel_requested_at - $1::interval, "
            "recall_asked_at = recall_asked_at - $1::interval WHERE due_at IS NOT NULL",
            duration,
        )
        await self.execute(
            "UPDATE endpoint_states SET retry_at = retry_at - $1::interval, probe_until = probe_until - $1::interval, "
            "failing_since = failing_since - $1::interval, sample_due_at = sample_due_at - $1::interval, "
            "sampled_at = sampled_at - $1::interval, learnt_at = learnt_at - $1::interval, "
            "health_asked_at = health_asked_at - $1::interval, out_since = out_since - $1::interval",
            duration,
        )
        await self.execute(
            "UPDATE generation_attempts SET started_at = started_at - $1::interval, "
            "orphaned_at = orphaned_at - $1::interval, orphan_due_at = orphan_due_at - $1::interval",
            duration,
        )
        await self.execute(
            "UPDATE endpoint_allowances SET refilled_at = refilled_at - $1::interval, "
            "slowed_at = slowed_at - $1::interval, closed_until = closed_until - $1::interval",
            duration,
        )

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Change the database behind everybody's back."""
        async with self.context.pool.acquire() as connection:
            await connection.execute(statement, *arguments)

    async def tamper(self, statement: str, *arguments: Any) -> None:
        """Change the database as nobody could: no trigger is asked."""
        async with self.context.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(statement, *arguments)

    async def value(self, statement: str, *arguments: Any) -> Any:
        """One value from the database."""
        async with self.context.pool.acquire() as connection:
            return await connection.fetchval(statement, *arguments)

    async def state(self, generation_id: UUID) -> str:
        """Where a generation is."""
        return str(await self.value("SELECT state FROM generations WHERE id = $1", generation_id))

    async def path(self, generation_id: UUID) -> list[str]:
        """The states it went through, as its transitions tell."""
        async with self.context.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT from_state, to_state FROM generation_transitions WHERE generation_id = $1 ORDER BY version",
                generation_id,
            )
        states = [row["to_state"] for row in rows]
        assert [row["from_state"] for row in rows] == [None, *states[:-1]], "the chain of transitions is broken"
        return states

    async def reasons(self, generation_id: UUID) -> list[str]:
        """Why it went through them."""
        async with self.context.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT reason FROM generation_transitions WHERE generation_id = $1 ORDER BY version", generation_id
            )
        return [row["reason"] for row in rows]

    async def credits_of(self, person: Person) -> tuple[int, int]:
        """(available, held), as the person is told."""
        reply = await person.http.get("/v1/credits")
        assert reply.status_code == 200, reply.text
        return reply.json()["available"], reply.json()["held"]

    async def charged(self, generation_id: UUID) -> int | None:
        """What the generation cost in the end."""
        charged: int | None = await self.value("SELECT charged FROM generations WHERE id = $1", generation_id)
        return charged

    async def attempts(self, generation_id: UUID) -> Sequence[str]:
        """The outcome of every attempt on record."""
        async with self.context.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT outcome FROM generation_attempts WHERE generation_id = $1 ORDER BY attempt", generation_id
            )
        return [row["outcome"] for row in rows]

    async def assert_sound(self) -> None:
        """Every truth that must hold at the end of every story."""
        async with self.context.pool.acquire() as connection:
            await assert_ledger_clean(connection, alone=False)
        assert not any((await audit.audit_once(self.context)).values())


@cache
def _issuer() -> Issuer:
    """The same in every world: to find a key takes longer than many a story."""
    return Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@asynccontextmanager
async def open_world(
    *,
    database_url: str,
    redis_url: str,
    folder: Path,
    manual_clock: bool = True,
    storage_url: str | None = None,
    **worker_changes: Any,
) -> AsyncIterator[World]:
    """Build a world; at the end, every truth that must hold is checked. RunPod's clock is real when not manual."""
    told = configuration(database_url=database_url, redis_url=redis_url, storage=folder / "media")
    told |= {"storage_url": storage_url} if storage_url else {}
    issuer = _issuer()
    app = create_app(read(ApiSettings, **told, clerk_issuer=ISSUER_URL, clerk_jwt_key=issuer.public_pem()))
    clock = ManualClock()
    runpod = Platform(ENDPOINTS, clock=clock if manual_clock else time.monotonic)
    runpod.deliver_to(app)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        context = await stack.enter_async_context(
            open_context(worker_settings(told, **worker_changes), runpod_transport=door.transport(runpod))
        )
        world = World(context, app, runpod, clock, issuer, stack, folder)
        yield world
        await world.assert_sound()
