"""Endpoints that have as many jobs as they may: who waits for them, who goes elsewhere, and what a claim locks."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from tests.flow.routed import ENTRY, at_once, breaker_of, open_routed, open_with, where
from tests.flow.world import World
from worker import line, submit

FULL_AT_ONE = {"first": "max_concurrency = 1\n", "second": ""}
A_PROBE_IS_DUE = """
UPDATE endpoint_states SET breaker = 'open', opened_at = now() - interval '1 minute', openings = 1,
    retry_at = now() - interval '1 second', reason = 'endpoint-paused'
WHERE endpoint_id = 'first'
"""


@pytest.mark.parametrize("priorities", [(0, 1), (0, 0)])
async def test_a_probe_that_finds_no_place_keeps_nobody_from_another_endpoint(
    database_url: str, redis_url: str, tmp_path: Path, priorities: tuple[int, int]
) -> None:
    async with open_routed(database_url, redis_url, tmp_path, FULL_AT_ONE, priorities=priorities) as world:
        person = await world.person(credits_granted=1000)
        while not await at_once(world, "first"):  # chance decides between equals
            await world.submitted(person)
        await world.execute(A_PROBE_IS_DUE)
        waits = await world.ask(person)
        await submit.submit_once(world.context)
        assert (await world.state(waits), await where(world, waits)) == ("submitted", "second")
        await world.work_off_all("first")
        probe = await world.submitted(person)
        assert (await where(world, probe), await breaker_of(world, "first")) == ("first", "closed")
        await world.cancel_all()


async def test_what_is_about_to_be_sent_has_a_place(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """RunPod has not answered yet: the next one is not drawn for the place that is taken, but goes to the other."""
    async with open_routed(database_url, redis_url, tmp_path, FULL_AT_ONE) as world:
        person = await world.person()
        sending = [await world.ask(person) for _ in range(2)]
        claimed = [generation for _ in sending for generation in await submit.claim(world.context, 1)]
        assert [generation.endpoint_id for generation in claimed] == ["first", "second"]
        await submit.send_all(world.context, claimed)
        await world.cancel_all()


@pytest.mark.parametrize("settled", [False, True])
async def test_who_comes_for_another_type_is_next_at_a_full_endpoint(
    database_url: str, redis_url: str, tmp_path: Path, *, settled: bool
) -> None:
    """One place for two types. A crowd wants one, single ones come for the other: the crowd goes on when none waits."""
    entries = [ENTRY.format(name=name, type=name, priority=0, endpoint_id="shared") for name in ("image", "video")]
    entries = [f"{entry}max_concurrency = 1\n" for entry in entries]
    entries += [ENTRY.format(name=name, type=name, priority=0, endpoint_id=name) for name in ("text", "modify")]
    async with open_with(database_url, redis_url, tmp_path, entries, added=["shared"]) as world:
        crowd = await world.person(credits_granted=10000)
        for _ in range(12):
            await world.ask(crowd)
        await submit.submit_once(world.context)
        sent: list[str] = []
        for _ in range(10):
            for _ in range(2):
                await world.ask(await world.person(), type="video")
            for _ in range(3):
                world.runpod.work_off("shared", lambda _: {"error": "test"})
                await world.poll_now()
                if settled:
                    await world.settle_all()
                await submit.submit_once(world.context)
                sent.append(await world.value("SELECT type::text FROM generations WHERE state = 'submitted'"))
        assert sent == ["video", "video", "image"] * 10
        await world.cancel_all()


async def test_places_that_two_types_may_have_count_once(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Four for images and videos, as many as there are slots left for texts; who draws them is a matter of weights."""
    terms = "max_concurrency = 4\nweight = "
    entries = [
        ENTRY.format(name=name, type=kind, priority=0, endpoint_id="shared") + terms + weight
        for name, kind, weight in (("small", "image", "1"), ("big", "image", "9"), ("video", "video", "1"))
    ]
    entries += [ENTRY.format(name=name, type=name, priority=0, endpoint_id=name) for name in ("text", "modify")]
    async with open_with(database_url, redis_url, tmp_path, entries, added=["shared"]) as world:
        person = await world.person(credits_granted=1000)
        for kind in ["text"] * 14 + ["image", "video"] * 5:
            await world.ask(person, type=kind)
        drawn: Counter[str] = Counter()
        async with world.context.pool.acquire() as connection:
            for _ in range(60):
                deal = await world.context.router.places(connection, 14, token=uuid4(), lease=timedelta(seconds=30))
                assert deal.room == {"shared": 4, "text": 10}
                drawn.update(place.name for place in deal.draws)
                await world.context.router.settle(connection, deal, [])
        assert drawn["video"] == drawn["small"] + drawn["big"] == 60 * 4
        # nine tenths of 240 are 216; fewer than 180 come once in 10^9 times or less
        assert 180 < drawn["big"] < 240
        assert len(await submit.claim(world.context, 14)) == 14
        await world.cancel_all()


async def test_places_of_others_are_for_who_finds_none_at_a_better_endpoint(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Texts may go where images go, when their own endpoint is full. It has room; there are no more slots."""
    entries = [
        ENTRY.format(name=name, type=kind, priority=priority, endpoint_id=endpoint_id)
        for name, kind, priority, endpoint_id in (
            ("text", "text", 0, "text"),
            ("dear", "text", 1, "image"),
            ("image", "image", 0, "image"),
            ("modify", "modify", 0, "modify"),
            ("video", "video", 0, "video"),
        )
    ]
    async with open_with(database_url, redis_url, tmp_path, entries) as world:
        crowd = await world.person(credits_granted=1000)
        for _ in range(4):
            await world.ask(crowd)
        texts = [await world.ask(await world.person(), type="text") for _ in range(4)]
        await submit.submit_once(world.context, limit=4)
        assert {await where(world, text) for text in texts} <= {"text", "None"}
        await world.cancel_all()


async def test_a_claim_that_freezes_keeps_nobody_from_writing_down_what_runpod_said(world: World) -> None:
    """Its transaction is open: only other claims wait for it. A record that failed before has the breaker to tell."""
    context = world.context
    person = await world.person()
    generation_id = await world.ask(person)
    async with context.pool.acquire() as connection:
        await context.router.register(connection)
    await world.execute("UPDATE endpoint_states SET failures = 1, failing_since = now() WHERE endpoint_id = 'image'")
    claimed = await submit.claim(context, 10)
    await world.ask(person)
    async with context.pool.acquire() as connection:
        deal = await context.router.places(connection, 10, token=uuid4(), lease=timedelta(seconds=30))
    assert deal.room["image"] == 1
    async with context.pool.acquire() as frozen:
        transaction = frozen.transaction()
        await transaction.start()
        here = [profile.endpoint for profile in context.endpoints]
        assert await line.claim(frozen, deal, endpoints=here, lease=timedelta(seconds=30))
        async with asyncio.timeout(5):  # half of what a statement may take
            await submit.send_all(context, claimed)
        assert await world.state(generation_id) == "submitted"
        await transaction.rollback()
    assert await world.value("SELECT failures FROM endpoint_states WHERE endpoint_id = 'image'") == 0
    await world.cancel_all()
