"""A worker's first claim waits until its endpoints have said how they are, whichever worker asks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from prometheus_client import REGISTRY

from tests.flow.machines import Machines
from tests.flow.routed import another_worker, at_once, open_routed
from tests.flow.test_learnt_limits import asked
from tests.flow.test_unseen_ends import saying, told
from tests.flow.world import World
from worker import health
from worker.main import Loops

A_MOMENT = 0.3
"""Longer than who waits takes to look again."""
FAILURES = ("twin_loop_failures_total", {"loop": "first-look"})


@dataclass
class Asking:
    """Another worker asks how the endpoints are, and has no answer yet."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def being_asked(world: World) -> AsyncIterator[Asking]:
    """While another worker asks; in the end it is answered."""
    asking = Asking()

    async def answer(_: httpx.Request) -> httpx.Response:
        asking.asked.set()
        await asking.answer.wait()
        return httpx.Response(200, json=told(idle=1))

    async with saying(world, answer) as slow, asyncio.TaskGroup() as group:
        group.create_task(health.first_look(slow.context, asyncio.Event()))
        await asking.asked.wait()
        yield asking
        asking.answer.set()


async def ends(task: "asyncio.Task[None]", *, within: float = 20) -> bool:
    """Whether it ends in this time; it goes on if not."""
    done, _ = await asyncio.wait([task], timeout=within)
    return bool(done)


async def looks(world: World, **terms: timedelta) -> bool:
    """Whether the first look of one more worker is over at once."""
    look = asyncio.create_task(health.first_look(another_worker(world).context, asyncio.Event(), **terms))
    over = await ends(look, within=A_MOMENT)
    look.cancel()
    await asyncio.wait([look])
    return over


async def registered(world: World) -> World:
    """One more worker, that has seen to it that every endpoint has its rows."""
    other = another_worker(world)
    async with world.context.pool.acquire() as connection:
        await other.context.router.register(connection)
    return other


async def test_a_worker_that_starts_waits_for_what_another_asks(world: World) -> None:
    """Nobody has worked for an hour, and a crowd waits: two workers start together."""
    await Machines(world).sampled()
    await world.pass_time(timedelta(hours=1))
    await asked(world, 20)
    stopping = asyncio.Event()
    async with being_asked(world) as asking:
        loops = asyncio.create_task(Loops(another_worker(world).context).run(stopping))
        assert not await ends(loops, within=A_MOMENT)
        assert await at_once(world, "image") == 0
        asking.answer.set()
        async with asyncio.timeout(20):
            while not world.runpod.jobs("image"):
                await asyncio.sleep(0.01)
    stopping.set()
    assert await ends(loops)
    assert await at_once(world, "image") <= 2
    await world.cancel_all()


async def test_whoever_may_be_asking_cannot_be_seen_before_their_commit(world: World) -> None:
    """Two workers that started together sent a whole crowd: one had just locked the row, and was about to ask."""
    await Machines(world).sampled()
    await world.pass_time(timedelta(hours=1))
    other = await registered(world)
    async with world.context.pool.acquire() as connection:
        async with connection.transaction():
            await connection.execute(
                "UPDATE endpoint_states SET sample_due_at = now() + interval '1 minute', health_asked_at = now()"
            )
            look = asyncio.create_task(health.first_look(other.context, asyncio.Event()))
            assert not await ends(look, within=A_MOMENT)
        assert not await ends(look, within=A_MOMENT)
        await connection.execute("UPDATE endpoint_states SET sampled_at = now()")
    assert await ends(look)
    assert len(world.runpod.calls_to("health", "image")) == 1


async def test_an_endpoint_whose_row_somebody_else_had_is_asked(world: World) -> None:
    await Machines(world).sampled()
    await world.pass_time(timedelta(hours=1))
    other = await registered(world)
    async with world.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM endpoint_states FOR UPDATE")
        look = asyncio.create_task(health.first_look(other.context, asyncio.Event()))
        assert not await ends(look, within=A_MOMENT)
    assert await ends(look)
    assert len(world.runpod.calls_to("health", "image")) == 2


async def test_an_answer_to_an_earlier_question_is_no_news(world: World) -> None:
    """One machine was there when it was asked; another worker has asked since, and heard of nine."""
    async with being_asked(world), saying(world, told(idle=9)) as later:
        await world.execute("UPDATE endpoint_states SET sample_due_at = now()")
        await health.sample(later.context)
    assert await world.value("SELECT learnt_limit FROM endpoint_states WHERE endpoint_id = 'image'") == 11


async def test_a_worker_that_is_told_to_stop_does_not_wait(world: World) -> None:
    stopping = asyncio.Event()
    async with being_asked(world):
        look = asyncio.create_task(health.first_look(another_worker(world).context, stopping))
        assert not await ends(look, within=A_MOMENT)
        stopping.set()
        assert await ends(look, within=1)


async def test_a_worker_waits_no_longer_than_an_answer_takes(world: World) -> None:
    """Who asked may have died; others may ask again and again."""
    assert timedelta(seconds=6) == health.ANSWERED
    async with being_asked(world):
        assert not await looks(world)
        assert await looks(world, patience=timedelta(seconds=0.1))
        await world.pass_time(health.ANSWERED)
        assert await looks(world)


async def test_an_endpoint_that_has_answered_is_not_waited_for(world: World) -> None:
    await Machines(world).sampled()
    assert await looks(world)


async def test_a_worker_that_got_no_answer_itself_does_not_wait_for_one(world: World) -> None:
    world.runpod.weather.order("server_error", operation="health")
    assert await looks(world)
    assert world.runpod.calls_to("health", "image")


async def test_where_a_number_was_said_nobody_waits(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with (
        open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}, max_concurrency=4) as world,
        being_asked(world),
    ):
        assert await looks(world)


@pytest.mark.parametrize(("error", "counted"), [(ConnectionError, 0), (RuntimeError, 1)])
async def test_a_first_look_that_fails_is_told_and_ends_no_worker(
    world: World, error: type[Exception], counted: int
) -> None:
    class Failing:
        async def register(self, _: object) -> None:
            raise error

    before = REGISTRY.get_sample_value(*FAILURES) or 0
    failing: object = Failing()
    with structlog.testing.capture_logs() as said:
        await health.first_look(replace(world.context, router=failing), asyncio.Event())  # type: ignore[arg-type]
    assert [(each["event"], each["loop"]) for each in said if "loop" in each] == [
        ("loop.failed" if counted else "loop.database_away", "first-look")
    ]
    assert (REGISTRY.get_sample_value(*FAILURES) or 0) - before == counted
