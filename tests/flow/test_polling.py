"""Who is asked about when: with webhooks, without them, and when RunPod may not be asked as often as we would."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.flow.world import Person, World, open_world, pictures
from worker import due, poll
from worker.remote import read_job

ALLOWANCE = 400
BUCKET = 1 + int(0.03 * ALLOWANCE)
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
    wait = await poll.apply_remote_status(world.context, claimed, silent)
    assert isinstance(wait, poll.Wait)
    assert timedelta(seconds=10) <= wait.after <= timedelta(seconds=14)
