"""Storage takes its time before a submit: by then the lease may be somebody else's, and the token old."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shared.generations import Generation
from tests.flow.world import Person, World, open_world
from worker import submit, sweep
from worker.lease import about_to_send

ALLOWANCE = 100
BUCKET = 3  # 1 and 2.5 % of the allowance


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose endpoints take few requests."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, run_allowance=ALLOWANCE
    ) as opened:
        yield opened


async def claimed(world: World, count: int) -> tuple[Person, list[Generation]]:
    """Somebody whose texts were claimed, with their tokens."""
    person = await world.person()
    for _ in range(count):
        await world.ask(person, type="text")
    return person, await submit.claim(world.context, count)


def sent(world: World) -> int:
    return len(world.runpod.calls_to("run", "text"))


async def test_who_lost_the_lease_sends_nothing(world: World) -> None:
    """Meanwhile the person cancelled, and was told that nothing was made."""
    person, [generation] = await claimed(world, 1)
    await person.http.post(f"/v1/generations/{generation.id}/cancel")
    for _ in range(2):
        await world.pass_time(timedelta(seconds=31))
        await sweep.sweep_once(world.context)
    assert await world.state(generation.id) == "cancelled"
    assert await submit.send(world.context, generation) is None
    assert sent(world) == 0


async def test_who_has_the_lease_still_has_a_whole_one_for_the_call(world: World) -> None:
    """Nobody took it though it was nearly over: the call gets all the time that it may need."""
    _, [generation] = await claimed(world, 1)
    lease = world.context.settings.lease
    await world.pass_time(lease - timedelta(seconds=1))
    async with world.context.pool.acquire() as connection:
        age = await about_to_send(connection, generation, lease=lease, fresh=submit.FRESH)
    assert age is not None
    assert age > lease - timedelta(seconds=2)
    left = await world.value("SELECT due_at - now() FROM generations WHERE id = $1", generation.id)
    assert left > lease - timedelta(seconds=1)
    await world.cancel_all()


async def test_what_waited_comes_not_on_top_of_what_others_send(world: World) -> None:
    """The tokens of these are old, and others have used those of now: they wait for their turn, and lose nothing."""
    _, waited = await claimed(world, BUCKET)
    await world.pass_time(timedelta(seconds=10))
    _, others = await claimed(world, BUCKET)
    assert len(others) == len(waited) == BUCKET
    await submit.send_all(world.context, others)
    before = sent(world)
    await world.execute("UPDATE endpoint_allowances SET tokens = 1, refilled_at = now() + interval '5 seconds'")
    await submit.send_all(world.context, waited)
    assert sent(world) == before + 1, "as many as there are tokens now"
    assert await reserved(world) == BUCKET - 1
    await world.pass_time(timedelta(seconds=10))
    await submit.submit_once(world.context)
    assert await reserved(world) == 0
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE detail = 'allowance-used'") == BUCKET - 1
    await world.cancel_all()


async def reserved(world: World) -> int:
    return int(await world.value("SELECT count(*) FROM generations WHERE state = 'reserved'"))
