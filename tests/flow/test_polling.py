"""Who is asked about when: with webhooks, without them, and when RunPod may not be asked as often as we would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.flow.world import Person, World, open_world, pictures
from tests.local.runpod import door
from worker import due, poll, readings
from worker.context import Context
from worker.main import Loops
from worker.remote import read_job
from worker.runpod import RunPod, open_http

ALLOWANCE = 400
SMALLEST_STATUS_ALLOWANCE = 40
BUCKET = 1 + int(0.025 * ALLOWANCE)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in which status calls are few."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, status_allowance=ALLOWANCE
    ) as opened:
        yield opened


async def ended(world: World, person: Person, count: int) -> None:
    """So many come to their end, told by webhooks as far as the weather lets them."""
    for _ in range(count):
        await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.poll_now()
    await world.settle_all()


async def all_due(world: World, person: Person, count: int) -> list[UUID]:
    """So many are in flight and due, and the allowance is full."""
    submitted = [await world.submitted(person) for _ in range(count)]
    await world.pass_time(MINUTE)
    return submitted


class SilentAboutImages(httpx.AsyncBaseTransport):
    """The world's RunPod, whose endpoint for images answers no /status until it may."""

    def __init__(self, world: World) -> None:
        self.inner = door.transport(world.runpod)
        self.may_answer = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if "/image/status/" in request.url.path:
            await self.may_answer.wait()
        return await self.inner.handle_async_request(request)


@asynccontextmanager
async def silent_about_images(world: World) -> AsyncIterator[tuple[Context, SilentAboutImages]]:
    """A worker in that weather."""
    transport = SilentAboutImages(world)
    async with open_http(world.context.settings, transport=transport) as http:
        yield replace(world.context, runpod=RunPod(http, shares=world.context.shares)), transport


async def given_back(world: World, generation_id: UUID) -> None:
    """It has been asked about, and may be asked about again."""
    free = "SELECT lease_token IS NULL AND due_at > now() FROM generations WHERE id = $1"
    async with asyncio.timeout(6):  # a silent call ends after 12 s
        while not await world.value(free, generation_id):
            await asyncio.sleep(0)


async def test_an_endpoint_that_is_silent_keeps_no_answer_of_another_waiting(world: World) -> None:
    person = await world.person()
    silent = await world.submitted(person)
    answered = await world.submitted(person, type="text")
    await world.execute("UPDATE generations SET due_at = now()")
    async with silent_about_images(world) as (context, weather):
        polling = asyncio.create_task(poll.poll_once(context))
        await given_back(world, answered)
        assert await world.value("SELECT lease_token IS NOT NULL FROM generations WHERE id = $1", silent)
        weather.may_answer.set()
        assert await polling == 2
    await given_back(world, silent)


async def test_an_endpoint_that_is_silent_leaves_the_others_their_slots(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """More polls than the worker has slots for are due there, some of them claimed together with one of another."""
    slots = 8
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path, poll_slots=slots) as world:
        person = await world.person(credits_granted=1000)
        text, _, _ = [await world.submitted(person, type="text") for _ in range(3)]
        for _ in range(slots + 2):
            await world.submitted(person)
        await world.execute("UPDATE generations SET due_at = now()")
        async with silent_about_images(world) as (context, weather):
            loops, stopping = Loops(context), asyncio.Event()
            running = asyncio.create_task(loops.poll.run(stopping))
            await given_back(world, text)
            async with asyncio.timeout(6):
                while context.shares.under_way("status") != {"image": slots - 3}:
                    await asyncio.sleep(0)
            await world.execute("UPDATE generations SET due_at = now() WHERE id = $1", text)
            loops.ring()
            await given_back(world, text)
            assert context.shares.under_way("status") == {"image": slots - 3}, "one for each of the three others"
            weather.may_answer.set()
            stopping.set()
            loops.ring()
            await running
            assert await loops.poll.drain(10) == 0


async def test_where_webhooks_come_polls_that_nobody_asked_for_leave_half_of_the_allowance(world: World) -> None:
    person = await world.person(credits_granted=1000)
    await ended(world, person, 6)
    await all_due(world, person, BUCKET + 3)
    assert len(await poll.claim(world.context, 50)) == BUCKET // due.UNHEARD_PRICE


async def test_a_webhook_is_heard_before_all_that_are_merely_due(world: World) -> None:
    person = await world.person(credits_granted=1000)
    await ended(world, person, 6)
    *_, last = await all_due(world, person, BUCKET + 3)
    *_, job = world.runpod.jobs("image")
    world.runpod.take("image")
    while world.runpod.job(job.id).state != "IN_PROGRESS":
        world.runpod.take("image")
    world.runpod.complete(job.id, pictures(1))
    await world.runpod.deliver_webhooks()
    first, *others = await poll.claim(world.context, 50)
    assert first.id == last
    assert len(others) == (BUCKET - 1) // due.UNHEARD_PRICE
    await poll.ask_all(world.context, [first, *others])
    assert await world.state(last) == "finishing"


async def test_where_no_webhooks_come_all_of_the_allowance_is_for_polls(world: World) -> None:
    world.runpod.weather.order("webhook_lost")
    person = await world.person(credits_granted=1000)
    await ended(world, person, 6)
    await all_due(world, person, BUCKET + 3)
    assert len(await poll.claim(world.context, 50)) == BUCKET


async def test_the_smallest_allowance_buys_polls_where_webhooks_come(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """One webhook of many is lost: its job is asked about all the same, however little may be asked."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, status_allowance=SMALLEST_STATUS_ALLOWANCE
    ) as world:
        person = await world.person(credits_granted=1000)
        for _ in range(6):
            await ended(world, person, 1)
            await world.pass_time(MINUTE)
        [lost] = await all_due(world, person, 1)
        assert [claimed.id for claimed in await poll.claim(world.context, 50)] == [lost]
        await world.cancel_all()


async def test_a_cancel_does_not_wait_for_those_that_are_merely_due(world: World) -> None:
    person = await world.person(credits_granted=1000)
    *_, last = await all_due(world, person, BUCKET + 3)
    reply = await person.http.post(f"/v1/generations/{last}/cancel")
    assert reply.status_code == 202, reply.text
    await poll.poll_once(world.context, limit=1)
    assert await world.state(last) == "cancelled"


async def test_a_job_that_waited_long_at_runpod_is_asked_about_by_how_long_it_runs(world: World) -> None:
    """A run of seconds, after minutes in the queue, is seen within seconds and not within a share of minutes."""
    person = await world.person()
    generation_id = await world.submitted(person)
    await world.pass_time(5 * MINUTE)
    world.runpod.take("image")
    await world.poll_now()
    assert await world.state(generation_id) == "running"
    wait = await world.value("SELECT due_at - now() FROM generations WHERE id = $1", generation_id)
    assert wait < timedelta(seconds=2)


async def test_a_run_is_as_long_as_we_see_it_when_runpod_does_not_say(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.take("image")
    await world.poll_now()
    await world.execute("UPDATE generations SET started_at = now() - interval '100 seconds', due_at = now()")
    [claimed] = await poll.claim(world.context, 10)
    assert claimed.id == generation_id
    silent = read_job(b'{"id": "%s", "status": "IN_PROGRESS"}' % (claimed.remote_id or "").encode())
    wait = await readings.apply_remote_status(world.context, claimed, silent)
    assert isinstance(wait, readings.Wait)
    assert timedelta(seconds=10) <= wait.after <= timedelta(seconds=14)
