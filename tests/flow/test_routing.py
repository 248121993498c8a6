"""Several endpoints, some of them ill: work goes to the well ones, waits for the others, and nobody pays for it."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from shared import pricing
from shared.generations import Type
from tests.flow.routed import another_worker, breaker_of, changes_of, expected_cost, open_routed, where
from tests.flow.world import World
from worker import health, poll, submit


@pytest.fixture
def world(routed: World) -> World:
    """Two endpoints for images: the second is asked when the first cannot be."""
    return routed


async def test_what_runpod_accepts_is_added_up_and_what_it_refuses_is_not(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="first")
    before = {name: expected_cost(name) for name in ("first", "second")}
    for _ in range(4):
        await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    assert {name: expected_cost(name) - before[name] for name in before} == {"first": 0, "second": 1}


async def test_the_first_in_priority_gets_everything(world: World) -> None:
    person = await world.person()
    ids = [await world.ask(person) for _ in range(5)]
    await submit.submit_once(world.context)
    assert {await where(world, each) for each in ids} == {"first"}


async def test_a_paused_endpoint_is_passed_over_and_no_attempt_is_lost(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="first")
    ids = [await world.ask(person) for _ in range(5)]
    await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "open"
    await submit.submit_once(world.context)  # at once: they wait for nothing
    assert {await where(world, each) for each in ids} == {"second"}
    assert {await world.state(each) for each in ids} == {"submitted"}
    refused = len(world.runpod.calls_to("run", "first"))
    later = await world.submitted(person)
    assert await where(world, later) == "second"
    assert len(world.runpod.calls_to("run", "first")) == refused, "an open endpoint is left alone"
    sent = "SELECT count(*) FROM generation_attempts WHERE outcome IN ('calling', 'accepted', 'unknown')"
    assert await world.value(sent) == 6, "one for each: what did not happen is not counted against anybody"
    assert await changes_of(world, "first") == ["open"]


async def test_who_wants_a_closed_endpoint_waits_for_it_and_holds_up_nobody(world: World) -> None:
    async with world.context.pool.acquire() as connection:
        await pricing.add(
            connection,
            key=uuid4().hex,
            endpoint="second",
            generation_type=Type.IMAGE,
            unit_credits=8,
            actor="owner",
        )
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="second")
    wanting = [await world.ask(person, endpoint="second") for _ in range(3)]
    await submit.submit_once(world.context)
    assert await breaker_of(world, "second") == "open"
    others = [await world.ask(person) for _ in range(3)]
    await submit.submit_once(world.context, limit=3)
    assert {await where(world, each) for each in others} == {"first"}
    assert {await world.state(each) for each in wanting} == {"reserved"}
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=1))
    for _ in range(2):
        await submit.submit_once(world.context)
    assert {await where(world, each) for each in wanting} == {"second"}
    assert {await world.state(each) for each in wanting} == {"submitted"}


async def test_what_endpoints_say_of_themselves_is_asked_by_one_worker_at_a_time(world: World) -> None:
    workers = [another_worker(world) for _ in range(5)]
    answered = await asyncio.gather(*(health.sample(each.context) for each in workers))
    assert sum(answered) == 5, "every endpoint once"
    assert await health.sample(world.context) == 0, "not before the interval is over"
    assert await world.value("SELECT health->'workers'->'idle' FROM endpoint_states WHERE endpoint_id = 'first'") == 0
    before = await world.value("SELECT sampled_at FROM endpoint_states WHERE endpoint_id = 'first'")
    world.runpod.weather.order("server_error", operation="health")
    await world.pass_time(health.EVERY)
    assert await health.sample(world.context) == 0
    kept = await world.value("SELECT sampled_at FROM endpoint_states WHERE endpoint_id = 'first'")
    assert kept == before - health.EVERY, "the last answer stays, with its time"
    assert await poll.poll_once(world.context) == 0


async def test_endpoints_of_one_priority_share_by_weight(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Of 500 draws 400 are to be the second's, and 250 if weights were ignored.

    The bounds are 75 = 0.15 * 500 from 400, and the lower one as far from 250. By Hoeffding, a count of n draws is as
    far off on one side with a probability of at most exp(-2 * n * 0.15²) = exp(-22.5) < 2e-10. So the right code fails
    less than once in 1e9 runs (two sides: 4e-10), and no more often does code pass that ignores weights.
    """
    terms = {"first": "weight = 1\n", "second": "weight = 4\n"}
    async with open_routed(database_url, redis_url, tmp_path, terms, priorities=(0, 0)) as world:
        person = await world.person(credits_granted=1000)
        await world.ask(person)
        router, drawn = world.context.router, []
        async with world.context.pool.acquire() as connection:
            for _ in range(500):
                deal = await router.places(connection, 1, token=uuid4(), lease=timedelta(seconds=30))
                drawn += [place.name for place in deal.draws]
                await router.settle(connection, deal, [])
        assert len(drawn) == 500, "what was not used came back"
        assert 325 < drawn.count("second") < 475
        await world.settle_all()


async def test_what_waits_for_a_paused_endpoint_takes_no_slot_of_another_type(world: World) -> None:
    """Pictures wait for endpoints that are shut, texts for nothing: all the slots are the texts'."""
    person = await world.person(credits_granted=1000)
    world.runpod.weather.order("paused")
    for _ in range(40):
        await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context, limit=1)  # the breakers open
    world.runpod.weather.clear()
    for _ in range(40):
        await world.ask(person, type="text")
    assert await submit.submit_once(world.context, limit=25) == 25
    assert len(world.runpod.calls_to("run", "text")) == 25
    await world.cancel_all()


async def test_types_share_the_slots(world: World) -> None:
    """A long line of one holds up no other, and no slot is kept for a type that has nothing."""
    crowd, single = await world.person(credits_granted=1000), await world.person()
    for _ in range(20):
        await world.ask(crowd)
    text = await world.ask(single, type="text")
    assert await submit.submit_once(world.context, limit=4) == 4
    assert await world.state(text) == "submitted"
    another = await world.ask(single, type="text")
    for _ in range(15):  # chance decides who has the only slot
        await submit.submit_once(world.context, limit=1)
    assert await world.state(another) == "submitted"
    await world.cancel_all()


async def test_who_names_the_overflow_delays_nobody_who_goes_anywhere(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The first takes one at a time. A crowd goes anywhere, another names the second: a newcomer waits for neither."""
    async with open_routed(
        database_url, redis_url, tmp_path, {"first": "max_concurrency = 1\n", "second": ""}
    ) as world:
        crowd, quick = await world.person(credits_granted=1000), await world.person(credits_granted=1000)
        for _ in range(20):
            await world.ask(crowd)
            await world.ask(quick)
        await world.execute("UPDATE generations SET wanted_endpoint = 'second' WHERE user_id = $1", quick.user_id)
        for _ in range(5):
            await submit.submit_once(world.context, limit=2)
        single = await world.ask(await world.person())
        await submit.submit_once(world.context, limit=2)
        assert await world.state(single) == "submitted"
        await world.cancel_all()
