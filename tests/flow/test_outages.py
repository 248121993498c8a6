"""Redis vanishes, Redis forgets, Postgres restarts: what is accepted is finished, and charged once."""

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx

from shared.database import UNREACHABLE
from tests.flow.machines import Machines
from tests.flow.world import Person, World, open_world, pictures
from tests.local.runpod import door
from worker.main import Loops
from worker.runpod import RunPod, open_http
from worker.settings import MOST_JOBS


async def test_redis_away_neither_refuses_nor_loses_a_submit(database_url: str, tmp_path: Path) -> None:
    async with open_world(database_url=database_url, redis_url=_nowhere(), folder=tmp_path) as world:
        person = await world.person()
        generation_id = await world.ask(person)
        stopping = asyncio.Event()
        loops = asyncio.create_task(Loops(world.context).run(stopping))
        await _until(world, generation_id, "submitted")
        world.work_off("image", pictures(1))
        await world.runpod.deliver_webhooks()
        await _until(world, generation_id, "completed")
        stopping.set()
        await loops
        assert await world.charged(generation_id) == 5


async def test_redis_flushed_mid_flight(world: World) -> None:
    person = await world.person()
    ids = [await world.ask(person) for _ in range(5)]
    await world.context.queue.flushdb()
    await world.settle_all()
    world.work_off("image", pictures(1))
    await world.context.queue.flushdb()
    await world.poll_now()
    await world.settle_all()
    assert [await world.charged(generation_id) for generation_id in ids] == [5] * 5
    assert await world.credits_of(person) == (75, 0)


async def test_postgres_cuts_every_connection_while_the_loops_run(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    short = timedelta(seconds=2)
    async with open_world(
        database_url=database_url,
        redis_url=redis_url,
        folder=tmp_path,
        lease=short,
        submit_grace=short,
        max_concurrency=MOST_JOBS,
    ) as world:
        await _postgres_restarts(world)


async def _postgres_restarts(world: World) -> None:
    person = await world.person()
    stopping = asyncio.Event()
    loops = asyncio.create_task(Loops(world.context).run(stopping))
    ids = []
    for number in range(5):
        ids.append(await _ask_until_accepted(world, person, key=f"key-{number}"))
        await _cut_connections(world)
    for generation_id in ids:
        await _until(world, generation_id, "submitted")
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    for generation_id in ids:
        await _until(world, generation_id, "completed")
    stopping.set()
    await loops
    assert await world.credits_of(person) == (75, 0)


async def test_the_bell_wakes_the_worker(world: World) -> None:
    """Over Redis, through arq: submitted long before the loops would have looked by themselves."""
    Machines(world, count=20)
    person = await world.person()
    patient = world.context.settings.model_copy(update={"idle": timedelta(hours=1)})
    context = replace(world.context, settings=patient)
    first = await world.ask(person)  # before the loops start: they look once then, whether or not a bell is heard
    stopping = asyncio.Event()
    loops = asyncio.create_task(Loops(context).run(stopping))
    await _until(world, first, "submitted")
    generation_id = await world.ask(person)
    for _ in range(10):  # a ring has 50 ms: a busy machine may miss one, and the next wakes the loop for both
        with suppress(TimeoutError):
            await _until(world, generation_id, "submitted", seconds=2)
            break
        await world.ask(person)
    await _until(world, generation_id, "submitted", seconds=5)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await _until(world, generation_id, "completed")
    stopping.set()
    await loops
    await world.settle_all()


async def test_a_worker_that_is_told_to_stop_waits_for_nobody_longer_than_it_may(world: World) -> None:
    """RunPod does not answer /health, nor the cancel of a job that nobody wants: what asks holds up no deploy."""
    person = await world.person()
    generation_id = await world.submitted(person)
    await world.execute("UPDATE generation_attempts SET orphaned_at = now() WHERE generation_id = $1", generation_id)
    transport = Silent(world, ("/health", "/cancel/"))
    settings = world.context.settings.model_copy(update={"drain": timedelta(seconds=0.5)})
    async with open_http(settings, transport=transport) as http:
        context = replace(world.context, settings=settings, runpod=RunPod(http, shares=world.context.shares))
        stopping = asyncio.Event()
        loops = asyncio.create_task(Loops(context).run(stopping))
        async with asyncio.timeout(20):
            while transport.asked != {"/health", "/cancel/"}:
                await asyncio.sleep(0)
        stopping.set()
        async with asyncio.timeout(6):  # a silent call ends after 20 s
            await loops
    await world.execute("UPDATE generation_attempts SET orphaned_at = NULL")
    await world.cancel_all()


class Silent(httpx.AsyncBaseTransport):
    """The world's RunPod, which does not answer some of the calls."""

    def __init__(self, world: World, silent: Sequence[str]) -> None:
        self.inner = door.transport(world.runpod)
        self.silent = silent
        self.asked: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for path in self.silent:
            if path in request.url.path:
                self.asked.add(path)
                await asyncio.Event().wait()
        return await self.inner.handle_async_request(request)


async def _ask_until_accepted(world: World, person: Person, *, key: str) -> UUID:
    """What a front end does when it is told 503: ask again with the same Idempotency-Key."""
    body = {"type": "image", "prompt": "through the storm"}
    async with asyncio.timeout(30):
        while True:
            reply = await person.http.post("/v1/generations", json=body, headers={"idempotency-key": key})
            if reply.status_code == 202:
                return UUID(reply.json()["id"])
            assert reply.status_code == 503, reply.text
            assert reply.json()["retryable"]


def _nowhere() -> str:
    """The address of a Redis that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{free.getsockname()[1]}/0"


async def _cut_connections(world: World) -> None:
    """What a restart of Postgres looks like from here: every other session of this database is ended."""
    await world.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


async def _until(world: World, generation_id: object, state: str, *, seconds: float = 30) -> None:
    """Look until a generation is there, asking the database; a deadline, not a sleep, ends a story that goes wrong."""
    async with asyncio.timeout(seconds):
        while True:
            now = None
            with suppress(*UNREACHABLE):  # Postgres may have cut the connection that looks, too
                async with world.context.pool.acquire() as connection:
                    now = await connection.fetchval("SELECT state FROM generations WHERE id = $1", generation_id)
            if now == state or (state == "submitted" and now in ("running", "finishing", "completed")):
                return
            assert now not in ("failed", "cancelled"), now
            await asyncio.sleep(0.01)
