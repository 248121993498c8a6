"""What RunPod takes, and what a profile allows: tokens, 429s and jobs at once, shared by all workers."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.routed import another_worker, at_once, breaker_of, changes_of, longer_closed, open_routed, where
from tests.flow.world import World, open_world, pictures
from worker import submit, sweep
from worker.allowances import Allowances
from worker.routing import Router


@pytest.fixture
def world(routed: World) -> World:
    """Two endpoints for images: the second is asked when the first cannot be."""
    return routed


async def test_429_closes_the_door_until_it_says_and_is_no_failure(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("rate_limited", endpoint="first", operation="run", count=1)
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    told = "SELECT {} FROM endpoint_allowances WHERE endpoint_id = 'first' AND operation = 'run'"
    assert timedelta(seconds=1) <= await world.value(told.format("closed_until - slowed_at")) <= timedelta(seconds=2)
    assert await world.value(told.format("pace")) == 0.5
    await longer_closed(world)
    await submit.submit_once(world.context)
    assert await where(world, generation_id) == "second", "meanwhile the other one is asked"
    assert (await breaker_of(world, "first"), await changes_of(world, "first")) == ("closed", [])
    await world.pass_time(timedelta(minutes=2))
    assert await where(world, await world.submitted(person)) == "first"


async def test_an_exhausted_endpoint_keeps_no_other_one_from_being_asked(world: World) -> None:
    person = await world.person()
    first = await world.submitted(person)
    text = await world.submitted(person, type="text")
    await world.execute(
        "UPDATE endpoint_allowances SET closed_until = now() + interval '1 hour' WHERE endpoint_id = 'first'"
    )
    await world.poll_now()
    assert not world.runpod.calls_to("status", "first"), "nothing is leased that cannot be asked"
    assert await world.value("SELECT lease_token IS NULL FROM generations WHERE id = $1", first)
    assert len(world.runpod.calls_to("status", "text")) == 1
    assert await world.state(text) == "submitted"


async def test_who_is_asked_too_much_is_left_alone_and_the_bucket_is_shared(world: World) -> None:
    """Two workers, an allowance of ten in ten seconds: together they stay within what has run into the bucket."""
    allowances = Allowances({**world.context.settings.allowances(), "run": 10})
    contexts = [
        replace(
            world.context,
            allowances=allowances,
            router=Router(world.context.endpoints, allowances, world.context.shares),
        )
        for _ in range(2)
    ]
    person = await world.person()
    began = time.monotonic()
    for _ in range(12):
        await world.ask(person, type="text")
    while time.monotonic() < began + 2:
        await asyncio.gather(*(submit.submit_once(context) for context in contexts))
    sent = len(world.runpod.calls_to("run", "text"))
    assert 1 <= sent <= 2 + 0.96 * (time.monotonic() - began)
    assert await world.value("SELECT count(*) FROM generations WHERE state = 'reserved'") == 12 - sent


async def test_a_429_to_the_cancel_of_an_orphan_slows_the_cancels(world: World) -> None:
    person = await world.person()
    await world.submitted(person)
    await world.execute("UPDATE generation_attempts SET orphaned_at = now()")
    world.runpod.weather.order("rate_limited", operation="cancel", seconds=60)
    assert await sweep.cancel_orphans(world.context) == 0
    await world.execute("UPDATE generation_attempts SET orphan_due_at = now()")
    world.runpod.weather.clear()
    assert await sweep.cancel_orphans(world.context) == 0
    assert len(world.runpod.calls_to("cancel", "first")) == 1, "not again before it says"
    await world.pass_time(timedelta(minutes=2))
    assert await sweep.cancel_orphans(world.context) == 1
    await world.execute("UPDATE generation_attempts SET orphaned_at = NULL, orphan_cancelled_at = NULL")
    await world.cancel_all()


async def test_of_many_429s_the_longest_wait_counts(world: World) -> None:
    """One poll of a batch is told to wait a minute, and the next to wait a moment."""
    person = await world.person()
    for _ in range(4):
        await world.submitted(person)
    world.runpod.weather.order("rate_limited", operation="status", seconds=60, count=1)
    world.runpod.weather.order("rate_limited", operation="status")
    await world.poll_now()
    closed = "SELECT closed_until - now() FROM endpoint_allowances WHERE (endpoint_id, operation) = ('first', 'status')"
    assert await world.value(closed) > timedelta(seconds=50)
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=2))
    await world.settle_all()


async def test_a_429_to_a_poll_slows_the_polls_and_nothing_else(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.weather.order("rate_limited", operation="status")
    await world.poll_now()
    await longer_closed(world)
    await world.poll_now()
    assert len(world.runpod.calls_to("status", "first")) == 1, "not again before it says"
    assert await where(world, await world.submitted(person)) == "first"
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=2))
    await world.poll_now()
    assert len(world.runpod.calls_to("status", "first")) >= 2
    assert await world.state(generation_id) == "submitted"


async def test_an_endpoint_has_no_more_jobs_at_once_than_its_profile_says(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"first": "max_concurrency = 2\n", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        person = await world.person()
        ids = [await world.ask(person) for _ in range(5)]
        await submit.submit_once(world.context)
        assert sorted([await where(world, each) for each in ids]) == ["first"] * 2 + ["second"] * 3
        world.work_off("first", pictures(1))
        await world.poll_now()
        assert await where(world, await world.submitted(person)) == "first"


async def test_without_a_file_a_crowd_waits_in_our_line_and_not_in_runpods(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """RunPod takes whatever comes, and what was sent there is before everybody who comes since."""
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path, max_concurrency=2) as world:
        crowd, single = await world.person(), await world.person()
        for _ in range(5):
            await world.ask(crowd)
        await submit.submit_once(world.context)
        theirs = await world.ask(single)
        assert len(world.runpod.jobs("image")) == 2
        world.work_off("image", pictures(1))
        await world.poll_now()
        await submit.submit_once(world.context)
        assert await world.state(theirs) == "submitted"
        await world.cancel_all()


async def test_profiles_of_one_endpoint_keep_to_the_lowest_of_their_limits(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"one": "max_concurrency = 1\n", "other": ""}
    priorities = (1, 0)
    async with open_routed(
        database_url, redis_url, tmp_path, terms, priorities=priorities, endpoint_id="first"
    ) as world:
        world.runpod.add_endpoint("first")
        person = await world.person()
        for _ in range(5):
            await world.ask(person)
        await submit.submit_once(world.context)
        assert await at_once(world, "first") == 1
        await world.work_off_all("first")


async def test_two_workers_that_claim_at_once_keep_to_a_profiles_limit(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"first": "max_concurrency = 3\n", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        workers = [another_worker(world) for _ in range(4)]
        person = await world.person(credits_granted=1000)
        for _ in range(5):
            for _ in range(8):
                await world.ask(person)
            await asyncio.gather(*(submit.submit_once(each.context, limit=2) for each in workers))
            assert 1 <= await at_once(world, "first") <= 3
            for endpoint in ("first", "second"):
                await world.work_off_all(endpoint)


async def test_what_one_type_has_no_tokens_for_another_one_gets(world: World) -> None:
    """And the loop comes again soon: it is not that nothing waits."""
    person = await world.person(credits_granted=1000)
    await submit.submit_once(world.context)
    for _ in range(30):
        await world.ask(person)
        await world.ask(person, type="text")
    await world.execute("UPDATE endpoint_allowances SET tokens = 2, refilled_at = now() + interval '5 seconds'")
    await world.execute("UPDATE endpoint_allowances SET tokens = 24 WHERE endpoint_id = 'text'")
    assert await submit.submit_once(world.context, limit=26) == 26
    assert len(world.runpod.calls_to("run", "text")) == 22
    assert await submit.submit_once(world.context, limit=26) == 2, "the tokens that were left"
    assert world.context.router.again() is not None
    await world.cancel_all()


async def test_a_worker_that_has_its_share_under_way_comes_again_soon(world: World) -> None:
    person = await world.person(credits_granted=1000)
    await world.ask(person)
    async with AsyncExitStack() as calls:
        for endpoint_id in ("first", "second"):
            for _ in range(world.context.shares.limit("run")):
                assert await calls.enter_async_context(world.context.shares.one(endpoint_id, "run"))
        assert await submit.submit_once(world.context) == 0
        assert world.context.router.again() is not None
    assert await submit.submit_once(world.context) == 1
    assert world.context.router.again() is None
    await world.cancel_all()
