"""The database's clock ran an hour ahead and is put right: what was written meanwhile stops nothing for an hour."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from shared.generations import HELD_BACK_DEADLINE, RESERVED_DEADLINE
from tests.flow.routed import breaker_of, open_routed
from tests.flow.test_held_back import limited
from tests.flow.world import Person, World, pictures
from worker import breaker, clock, health, submit, sweep
from worker.shares import AT_ONCE, Shares

HOUR = timedelta(hours=1)


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world with one endpoint for images, and another that nobody asks."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}) as opened:
        yield opened


async def put_right(world: World) -> None:
    """Whatever was written lies an hour ahead now, and the worker finds out."""
    await world.pass_time(-HOUR)
    await world.execute("UPDATE workers SET seen_at = seen_at + $1::interval", HOUR)
    await clock.put_right(world.context)


async def ahead(world: World, column: str, table: str) -> timedelta:
    """How far ahead the furthest moment lies."""
    return timedelta(seconds=float(await world.value(f"SELECT max(extract(EPOCH FROM {column} - now())) FROM {table}")))  # noqa: S608


async def asked(world: World) -> tuple[Person, UUID, UUID]:
    """Somebody has one at RunPod and one in line."""
    person = await world.person()
    return person, await world.submitted(person), await world.ask(person)


async def test_tokens_come_again(world: World) -> None:
    """The bucket was emptied, RunPod said 429: a few seconds later there are tokens, at the pace that it left."""
    await asked(world)
    async with world.context.pool.acquire() as connection:
        await world.context.allowances.slow_down(connection, "run", {"first": timedelta(seconds=60)})
    await put_right(world)
    assert await ahead(world, "refilled_at", "endpoint_allowances") <= clock.LAG
    await world.pass_time(timedelta(seconds=125))
    async with world.context.pool.acquire() as connection:
        await world.context.allowances.take(connection, "run", {"first": 20})
        await world.pass_time(timedelta(seconds=1))
        assert (await world.context.allowances.take(connection, "run", {"first": 20}))["first"] == 20
    await world.settle_all()


async def test_between_step_and_mending_nothing_is_granted_that_is_not_there(world: World) -> None:
    """A pace that was slowed in the future is not a negative one."""
    await asked(world)
    async with world.context.pool.acquire() as connection:
        await world.context.allowances.slow_down(connection, "run", {"first": timedelta(0)})
        await world.execute("UPDATE endpoint_allowances SET slowed_at = slowed_at + $1::interval, tokens = 5", HOUR)
        await world.pass_time(timedelta(seconds=1))
        assert (await world.context.allowances.take(connection, "run", {"first": 20}))["first"] > 5
    await world.settle_all()


async def test_a_breaker_is_tried_again_within_its_longest_patience(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused")
    await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    await put_right(world)
    world.runpod.weather.clear()
    await world.pass_time(breaker.LONGEST_PATIENCE + 2 * clock.LAG)
    await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "closed"
    await world.settle_all()


@pytest.mark.parametrize("column", ["sampled_at", "learnt_at", "health_asked_at"])
async def test_what_was_learnt_counts_no_longer_than_at_any_time(world: World, column: str) -> None:
    """RunPod was asked again since, and has not said how it is."""
    await health.sample(world.context)
    await world.execute(f"UPDATE endpoint_states SET {column} = {column} + $1::interval", HOUR)  # noqa: S608
    await clock.put_right(world.context)
    assert await ahead(world, column, "endpoint_states") <= clock.LAG


async def test_what_was_on_its_way_goes_on(world: World) -> None:
    """One in line, one at RunPod whose webhook was lost."""
    _, at_runpod, in_line = await asked(world)
    world.work_off("first", pictures(1))
    await put_right(world)
    await world.pass_time(timedelta(minutes=3))
    await world.settle_all()
    assert await world.state(at_runpod) == "completed"
    assert await world.state(in_line) == "submitted"


async def test_who_waits_waits_no_longer_than_others(world: World) -> None:
    """One in line and one that is held back: each is refunded as soon as if it had come now."""
    _, _, in_line = await asked(world)
    person = await limited(world, 1)
    await world.ask(person)
    held = await world.ask(person)
    await put_right(world)
    left = "SELECT extract(EPOCH FROM deadline_at - now()) FROM generations WHERE id = $1"
    assert await world.value(left, in_line) <= (RESERVED_DEADLINE + clock.LAG).total_seconds()
    assert await world.value(left, held) <= (HELD_BACK_DEADLINE + clock.LAG).total_seconds()
    assert await world.value("SELECT due_at = deadline_at FROM generations WHERE id = $1", held)
    await world.cancel_all()


async def test_a_text_is_followed_again_within_minutes(world: World) -> None:
    _, at_runpod, _ = await asked(world)
    await world.execute(
        "INSERT INTO generation_streams (generation_id, attempt, user_id, due_at) "
        "SELECT id, attempt, user_id, now() + $2::interval FROM generations WHERE id = $1",
        at_runpod,
        HOUR,
    )
    await clock.put_right(world.context)
    assert await ahead(world, "due_at", "generation_streams") <= timedelta(minutes=3)
    await world.execute("DELETE FROM generation_streams")
    await world.cancel_all()


async def test_a_job_that_nobody_wants_is_cancelled_within_minutes(world: World) -> None:
    """It was given up, and RunPod did not hear our cancel, while the clock was wrong: it runs on, at our cost."""
    await asked(world)
    await world.execute(
        "UPDATE generation_attempts SET orphaned_at = now(), started_at = now() WHERE remote_id IS NOT NULL"
    )
    world.runpod.weather.order("server_error", operation="cancel", count=1)
    assert await sweep.cancel_orphans(world.context) == 0
    await put_right(world)
    await world.pass_time(timedelta(minutes=1))
    assert await sweep.cancel_orphans(world.context) == 1
    await world.execute("UPDATE generation_attempts SET orphaned_at = NULL, orphan_cancelled_at = NULL")
    await world.cancel_all()


async def test_a_dead_workers_share_comes_back_with_the_lease(world: World) -> None:
    pool, lease = world.context.pool, world.context.settings.lease
    living, dead = Shares(), Shares()
    for worker in (living, dead, living, dead):
        await worker.beat(pool, lease=lease)
    await put_right(world)
    await world.execute("UPDATE workers SET seen_at = seen_at - $1::interval", lease + clock.LAG)
    await living.beat(pool, lease=lease)
    assert living.limit("status") == 0.95 * AT_ONCE["status"]
