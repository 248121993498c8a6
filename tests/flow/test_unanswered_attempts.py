"""Two attempts of one generation, and RunPod does not give the result of the pursued one: neither the deadline nor a
silence may cost the result that the other has.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.flow.routed import where
from tests.flow.test_large_answers import Results
from tests.flow.twice import (
    LOST,
    NAMED,
    ORPHANS,
    PURSUED,
    is_delivered,
    says,
    the_first_ends_and_is_dropped,
    two_attempts,
)
from tests.flow.world import Person, World, open_world, pictures
from worker import poll, submit, sweep
from worker.answers import MAXIMUM_ANSWER_BYTES
from worker.readings import SILENCE
from worker.runpod import RunPod, open_http


@pytest.fixture
async def hasty(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose deadline is shorter than the grace of a 404."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, queue_deadline=timedelta(seconds=60)
    ) as opened:
        yield opened


async def test_a_deadline_within_the_grace_of_a_404_costs_no_result(hasty: World) -> None:
    world = hasty
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    assert second.state == "COMPLETED"
    await world.pass_time(timedelta(seconds=61))
    await poll.poll_once(world.context)
    assert await world.value(LOST) is None, "the 404 proves nothing yet"
    await world.pass_time(timedelta(seconds=15))
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_a_deadline_within_the_grace_ends_what_has_no_other(hasty: World) -> None:
    """The 404 proved nothing: should the job show up and end, whoever tries again has its result."""
    world = hasty
    person = await world.person()
    generation_id = await world.submitted(person)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.forget(job.id)
    await world.pass_time(timedelta(seconds=61))
    await poll.poll_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "queue-deadline"
    assert await world.value(LOST) is None


async def test_an_endpoint_that_is_silent_past_the_deadline_costs_no_result_of_another(routed: World) -> None:
    world = routed
    person = await world.person()
    world.runpod.weather.order("dropped_after_accepting", endpoint="first", operation="run", count=1)
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    for duration in (world.context.settings.lease, world.context.settings.submit_grace):
        await world.pass_time(duration)
        await sweep.sweep_once(world.context)
    await world.execute(
        "UPDATE endpoint_allowances SET closed_until = now() + interval '1 minute', slowed_at = now() "
        "WHERE endpoint_id = 'first' AND operation = 'run'"
    )
    await submit.submit_once(world.context)
    assert await where(world, generation_id) == "second"
    world.work_off("first", pictures(1))
    await world.runpod.deliver_webhooks()
    world.runpod.weather.order("server_error", endpoint="first", operation="status")
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    await world.pass_time(world.context.settings.queue_deadline)
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1, "the second may run, the first is said to have a result"
    world.work_off("second", pictures(1))
    await world.runpod.deliver_webhooks()
    for _ in range(2):
        await world.pass_time(timedelta(minutes=1))
        await poll.poll_once(world.context)
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await where(world, generation_id) == "second"
    assert await world.value(LOST) is None


@pytest.mark.parametrize("why", ["cancel", "deadline"])
async def test_what_is_more_than_we_take_is_read_once_whatever_else_is_called_for(world: World, why: str) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    if why == "cancel":
        await person.http.post(f"/v1/generations/{generation_id}/cancel")
    else:
        await world.pass_time(world.context.settings.queue_deadline + timedelta(seconds=1))
    results, asked = Results(MAXIMUM_ANSWER_BYTES + 1), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return results(request)

    async with open_http(world.context.settings, transport=httpx.MockTransport(answer)) as http:
        await world.execute("UPDATE generations SET due_at = now()")
        await poll.poll_once(replace(world.context, runpod=RunPod(http)))
    assert len(asked) == 1
    assert (await world.reasons(generation_id))[-1] == "output-too-large"
    assert await world.credits_of(person) == (100, 0)


async def test_the_other_attempt_is_stopped_as_soon_as_the_result_is_here(world: World) -> None:
    """Not only when its outputs are copied: that may take a quarter of an hour of somebody's GPU."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert world.runpod.take("image") is first
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "finishing"
    await sweep.cancel_orphans(world.context)
    assert second.state == "CANCELLED"
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_past_the_deadline_one_that_completed_is_taken(world: World) -> None:
    """The pursued one runs for too long. The other ended meanwhile."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    await world.poll_now()
    assert await world.state(generation_id) == "running"
    await world.execute(NAMED, first.id)
    world.runpod.complete(first.id, pictures(1))
    await world.execute("UPDATE generations SET deadline_at = now(), due_at = now()")
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    assert await world.value(ORPHANS) == [2]
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=1)


async def test_past_the_deadline_one_that_still_runs_is_not_waited_for(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    await world.execute(NAMED, first.id)
    await world.execute("UPDATE generations SET deadline_at = now(), due_at = now()")
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.value(PURSUED, generation_id) == 1, "it was asked about"
    assert first.state == second.state == "CANCELLED"
    assert await world.credits_of(person) == (100, 0)


async def test_past_the_deadline_they_do_not_take_turns(world: World) -> None:
    """Neither ends, and RunPod answers no cancel."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    await world.execute(NAMED, first.id)
    world.runpod.weather.order("server_error", operation="cancel")
    await world.execute("UPDATE generations SET deadline_at = now() - interval '2 minutes', due_at = now()")
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    await poll.poll_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "queue-deadline"
    assert await world.value(ORPHANS) == [1, 2]
    assert await world.credits_of(person) == (100, 0)


async def test_an_answer_that_breaks_us_costs_no_result_of_another(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    world.work_off("image", pictures(1))
    await world.execute(NAMED, first.id)
    await world.pass_time(SILENCE + world.context.settings.queue_deadline)

    def breaks(request: httpx.Request) -> httpx.Response:
        raise RuntimeError(request.url.path)

    async with open_http(world.context.settings, transport=httpx.MockTransport(breaks)) as http:
        await poll.poll_once(replace(world.context, runpod=RunPod(http)))
    assert await world.value(PURSUED, generation_id) == 1
    assert await world.value(LOST) == [2]
    assert second.state == "COMPLETED"


async def both_say_that_they_completed(world: World, person: Person) -> UUID:
    generation_id, first, second = await two_attempts(world, person)
    await says(world, generation_id, 1, first.id)
    await says(world, generation_id, 2, second.id)
    return generation_id


async def test_two_that_completed_are_not_waited_for_when_runpod_is_silent_for_good(world: World) -> None:
    """A key that was revoked, say: it gives neither, ever, and says of neither that it is gone."""
    person = await world.person()
    generation_id = await both_say_that_they_completed(world, person)
    world.runpod.weather.order("server_error", operation="status")
    world.runpod.weather.order("server_error", operation="cancel")
    await world.pass_time(world.context.settings.queue_deadline)
    for _ in range(5):
        await world.poll_now()
        assert await world.value("SELECT due_at > now() + interval '10 seconds' FROM generations"), "not at once"
    taken = (await world.reasons(generation_id)).count("another-attempt")
    assert taken == 5, "they take turns"
    await world.pass_time(SILENCE)
    for _ in range(3):
        await world.poll_now()
    assert (await world.reasons(generation_id))[-1] == "queue-deadline"
    assert (await world.reasons(generation_id)).count("another-attempt") == taken + 1, "each is given up once"
    assert await world.credits_of(person) == (100, 0)


async def test_two_that_completed_and_are_said_to_run_for_ever_do_not_take_turns(world: World) -> None:
    """A late progress update makes /status say so (runpod.md 5); /cancel says CANCELLED."""
    person = await world.person()
    generation_id = await both_say_that_they_completed(world, person)

    def say(request: httpx.Request) -> httpx.Response:
        operation, remote_id = request.url.path.split("/")[-2:]
        status = "CANCELLED" if operation == "cancel" else "IN_PROGRESS"
        return httpx.Response(200, json={"id": remote_id, "status": status})

    async with open_http(world.context.settings, transport=httpx.MockTransport(say)) as http:
        there = replace(world.context, runpod=RunPod(http))
        await world.execute("UPDATE generations SET deadline_at = now() - interval '5 hours', due_at = now()")
        for _ in range(3):
            await poll.poll_once(there)
    assert (await world.reasons(generation_id))[-1] == "queue-deadline"
    assert (await world.reasons(generation_id)).count("another-attempt") == 1
    assert await world.credits_of(person) == (100, 0)
