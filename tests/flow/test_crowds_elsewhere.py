"""One of two endpoints is out of machines, a crowd is at the other, and somebody comes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.crowd import Crowd, begun_before
from tests.flow.machines import Machines
from tests.flow.routed import open_routed
from tests.flow.test_out_of_machines import come_round, out
from tests.flow.world import World
from worker import submit
from worker.recall import OUT_OF_MACHINES

RECALLED = "SELECT count(*) FROM generation_attempts WHERE outcome = 'recalled' AND endpoint_id = $1"


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The first comes before the second."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}) as world:
        yield world
        await world.cancel_all()


async def test_whoever_comes_is_before_all_that_came_back(world: World) -> None:
    """The first had 24 machines and the crowd's jobs for them; the clock has passed all of those."""
    first, second = Machines(world, "first", count=24), Machines(world, "second")
    await first.sampled()
    await second.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(24):
        await world.ask(person)
    while await submit.submit_once(world.context):
        pass
    await out(world)
    await world.pass_time(OUT_OF_MACHINES + timedelta(seconds=1))
    await Machines(world, "first").sampled()
    await second.sampled()
    for _ in range(30):
        await come_round(world)
        await world.pass_time(timedelta(seconds=1))
        await Machines(world, "first").sampled()
        await second.sampled()
    assert await world.value(RECALLED, "first") == 24
    second.take()
    there = Crowd(second, person, [])
    theirs = await world.ask(await world.person())
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    assert await world.value(RECALLED, "second") == 1


async def test_nothing_is_recalled_for_them_where_they_cannot_go(world: World) -> None:
    """What waits at the first, for which it was named, came after the crowd, and is in nobody's way."""
    second = Machines(world, "second")
    await second.sampled()
    await out(world)
    crowd, named = [await world.person(credits_granted=1000) for _ in range(2)]
    for _ in range(6):
        await world.ask(crowd)
    while await submit.submit_once(world.context):
        pass
    second.take()
    stay = [await world.ask(named) for _ in range(40)]
    await world.execute("UPDATE generations SET wanted_endpoint = 'first' WHERE id = any($1)", stay)
    while await submit.submit_once(world.context):
        pass
    theirs = await world.ask(await world.person())
    there = Crowd(second, crowd, [])
    await there.come_round()
    assert [await world.value(RECALLED, name) for name in ("first", "second")] == [0, 1]
    assert await begun_before(there, theirs) == 0
