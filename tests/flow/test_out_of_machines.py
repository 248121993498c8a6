"""RunPod has no room for an endpoint's machines: when another is open, it is as if nothing had been sent."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.flow.machines import Machines
from tests.flow.routed import open_routed, where
from tests.flow.world import Person, World, pictures
from worker import poll, recall, submit, sweep
from worker.recall import OUT_OF_MACHINES
from worker.settings import MOST_RECALLS

LONG_AGO = "UPDATE endpoint_states SET sampled_at = sampled_at - interval '91 seconds' WHERE endpoint_id = 'first'"


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The first comes before the second; both have a machine."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}) as world:
        for name in ("first", "second"):
            await Machines(world, name).sampled()
        yield world
        await world.cancel_all()


async def out(world: World, name: str = "first") -> None:
    """None of its machines works or starts, and it says so."""
    world.runpod.weather.order("throttled", endpoint=name)
    await Machines(world, name).sampled()


async def stuck(world: World, person: Person) -> UUID:
    """It waits at the first one, which has run out of machines since."""
    generation_id = await world.submitted(person)
    assert await where(world, generation_id) == "first"
    await out(world)
    await world.pass_time(OUT_OF_MACHINES + timedelta(seconds=1))
    await Machines(world, "first").sampled()
    await Machines(world, "second").sampled()
    return generation_id


async def come_round(world: World) -> None:
    await submit.submit_once(world.context)
    await recall.look(world.context)
    await poll.poll_once(world.context)
    await submit.submit_once(world.context)


async def test_what_comes_goes_to_another(world: World) -> None:
    await out(world)
    assert await where(world, await world.submitted(await world.person())) == "second"


async def test_what_waits_there_is_sent_to_another_and_charged_once(world: World) -> None:
    person = await world.person()
    generation_id = await stuck(world, person)
    await come_round(world)
    assert await where(world, generation_id) == "second"
    assert await world.attempts(generation_id) == ["recalled", "accepted"]
    (job,) = world.runpod.jobs("first")
    assert job.ended, "it is cancelled there"
    world.work_off("second", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert (await world.state(generation_id), await world.charged(generation_id)) == ("completed", 5)
    assert await world.credits_of(person) == (95, 0)


async def test_it_is_given_a_while(world: World) -> None:
    """Machines come and go: one look that shows none is no reason to begin anew, however long it has waited."""
    generation_id = await world.submitted(await world.person())
    await world.pass_time(OUT_OF_MACHINES + timedelta(seconds=1))
    await Machines(world, "second").sampled()
    await out(world)
    await come_round(world)
    assert (await world.state(generation_id), await where(world, generation_id)) == ("submitted", "first")


@pytest.mark.parametrize("since", ["it has some again", "it has not said so lately"])
async def test_it_stays_when_there_may_be_machines(world: World, since: str) -> None:
    generation_id = await stuck(world, await world.person())
    if since == "it has some again":
        world.runpod.weather.clear()
        await Machines(world, "first").sampled()
    else:
        await world.execute(LONG_AGO)
    await come_round(world)
    assert (await world.state(generation_id), await where(world, generation_id)) == ("submitted", "first")
    assert await where(world, await world.submitted(await world.person())) == "first"


@pytest.mark.parametrize("other", ["out, too", "paused"])
async def test_where_there_is_no_other_it_waits_for_its_deadline(world: World, other: str) -> None:
    person = await world.person()
    generation_id = await stuck(world, person)
    if other == "paused":
        world.runpod.weather.order("paused", endpoint="second")
        await world.execute("UPDATE generations SET wanted_endpoint = 'second' WHERE id = $1", await world.ask(person))
        await submit.submit_once(world.context)
    else:
        await out(world, "second")
    await come_round(world)
    assert (await world.state(generation_id), await where(world, generation_id)) == ("submitted", "first")
    newcomer = await world.submitted(await world.person())
    assert await where(world, newcomer) == "first"
    await world.pass_time(timedelta(minutes=15))
    await world.poll_now()
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.charged(generation_id) == 0


async def test_who_named_it_waits_for_it(world: World) -> None:
    generation_id = await stuck(world, await world.person())
    await world.execute("UPDATE generations SET wanted_endpoint = 'first' WHERE id = $1", generation_id)
    await come_round(world)
    assert (await world.state(generation_id), await where(world, generation_id)) == ("submitted", "first")


@pytest.mark.parametrize(
    "meanwhile", ["lease_token = gen_random_uuid()", "heard_attempt = 1", "cancel_requested_at = now()"]
)
async def test_what_is_about_to_move_is_left_alone(world: World, meanwhile: str) -> None:
    generation_id = await stuck(world, await world.person())
    await world.execute(f"UPDATE generations SET {meanwhile} WHERE id = $1", generation_id)  # noqa: S608
    await submit.submit_once(world.context)
    assert await recall.look(world.context) == 0
    await world.execute("UPDATE generations SET lease_token = NULL WHERE id = $1", generation_id)


async def test_it_is_not_sent_back_and_forth_for_ever(world: World) -> None:
    """Wherever it is sent, the machines are gone a little later."""
    generation_id = await stuck(world, await world.person())
    for _ in range(MOST_RECALLS + 2):
        await come_round(world)
        here = await where(world, generation_id)
        assert here is not None
        world.runpod.weather.clear()
        await Machines(world, "first").sampled()
        await Machines(world, "second").sampled()
        await out(world, here)
        await world.pass_time(OUT_OF_MACHINES + timedelta(seconds=1))
        for name in ("first", "second"):
            await Machines(world, name).sampled()
    assert await world.attempts(generation_id) == ["recalled"] * MOST_RECALLS + ["accepted"]


async def test_they_come_back_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that waited longest first: an endpoint may have thousands."""
    monkeypatch.setattr(recall, "ELSEWHERE_AT_ONCE", 1)
    person = await world.person()
    before = await world.submitted(person)
    after = await stuck(world, person)
    await submit.submit_once(world.context)
    for generation_id in (before, after):
        assert await recall.look(world.context) == 1
        assert await world.value("SELECT recall_asked_at IS NOT NULL FROM generations WHERE id = $1", generation_id)
    assert await recall.look(world.context) == 0


async def test_a_cancel_that_runpod_does_not_take_is_not_asked_for_at_every_look(world: World) -> None:
    await stuck(world, await world.person())
    world.runpod.weather.order("server_error", operation="cancel", endpoint="first")
    await submit.submit_once(world.context)
    assert [await recall.look(world.context), await recall.look(world.context)] == [1, 0]
    await sweep.sweep_once(world.context)
    world.runpod.weather.clear()
