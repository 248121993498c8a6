"""RunPod may not know a job while its first machine pulls the image: nothing is lost before that can be told."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest

from tests.flow.world import Person, World, picture
from worker import health, poll, readings, sweep
from worker.context import Context
from worker.runpod import RunPod, open_http

COLD = {"idle": 0, "initializing": 2, "ready": 0, "running": 0, "throttled": 0, "unhealthy": 0}


@dataclass
class Young:
    """A RunPod that knows no job yet, and says how its machines are."""

    context: Context
    workers: Mapping[str, int] = field(default_factory=lambda: COLD)
    asked: list[str] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """To whatever it is asked."""
        operation = request.url.path.split("/")[3]
        self.asked.append(operation)
        if operation == "health":
            return httpx.Response(200, json={"jobs": {"inQueue": 1}, "workers": self.workers})
        return httpx.Response(404, json={"status": 404, "title": "Not Found", "detail": "job not found"})


@pytest.fixture
async def young(world: World) -> AsyncIterator[Young]:
    """Beside the world's own RunPod, which has the job in the end."""
    there = Young(world.context)
    async with open_http(world.context.settings, transport=httpx.MockTransport(there.answer)) as http:
        there.context = replace(world.context, runpod=RunPod(http))
        yield there


async def after(world: World, young: Young, duration: timedelta) -> None:
    """So much later they are asked how they are, and about the job."""
    await world.pass_time(duration)
    await health.sample(young.context)
    await world.execute("UPDATE generations SET due_at = now() WHERE due_at IS NOT NULL")
    await poll.poll_once(young.context)


@pytest.fixture
async def person(world: World) -> Person:
    return await world.person()


async def test_a_404_while_the_machines_only_start_is_no_lost_result(
    world: World, young: Young, person: Person
) -> None:
    generation_id = await world.submitted(person)
    for _ in range(3):
        await after(world, young, timedelta(minutes=4))
        assert await world.state(generation_id) == "submitted"
    world.work_off("image", {"images": [picture()]})
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_a_machine_that_has_just_started_gets_as_long_as_any_submit(
    world: World, young: Young, person: Person
) -> None:
    generation_id = await world.submitted(person)
    await after(world, young, timedelta(minutes=4))
    young.workers = {**COLD, "initializing": 1, "ready": 1, "idle": 1}
    await after(world, young, timedelta(seconds=30))
    assert await world.state(generation_id) == "submitted", "it may just be telling RunPod"
    grace = world.context.settings.lost_grace
    await world.execute("UPDATE endpoint_states SET starting_at = starting_at - $1::interval", grace)
    await after(world, young, timedelta(seconds=30))
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    await world.settle_all()


@pytest.mark.parametrize(
    "workers", [{}, {**COLD, "initializing": 0}, {**COLD, "running": 1, "ready": 1}, {"idle": 1, "running": 0}]
)
async def test_a_404_where_machines_work_or_there_are_none_is_a_lost_result(
    world: World, young: Young, person: Person, workers: Mapping[str, int]
) -> None:
    young.workers = workers
    generation_id = await world.submitted(person)
    await after(world, young, timedelta(minutes=4))
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    await world.settle_all()


async def test_nobody_waits_longer_than_a_quarter_of_an_hour_for_machines_that_only_start(
    world: World, young: Young, person: Person
) -> None:
    generation_id = await world.submitted(person)
    await world.execute("UPDATE generations SET deadline_at = deadline_at + interval '1 day'")
    await after(world, young, readings.COLD_START - timedelta(seconds=5))
    assert await world.state(generation_id) == "submitted"
    await after(world, young, timedelta(seconds=5))
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)
    await world.settle_all()


async def test_a_job_that_shows_up_after_it_was_given_up_is_cancelled(
    world: World, young: Young, person: Person
) -> None:
    await world.submitted(person)
    young.workers = {}
    await after(world, young, timedelta(minutes=4))
    assert await sweep.cancel_orphans(young.context) == 0, "a 404 tells nothing"
    await world.pass_time(timedelta(minutes=4))
    assert await sweep.cancel_orphans(world.context) == 1
    (job,) = world.runpod.jobs("image")
    assert job.state == "CANCELLED"


async def test_a_job_that_never_shows_up_is_asked_for_until_runpod_must_have_dropped_it(
    world: World, young: Young, person: Person
) -> None:
    await world.submitted(person)
    young.workers = {}
    await after(world, young, timedelta(minutes=4))
    told = 0
    for _ in range(60):
        told += await sweep.cancel_orphans(young.context)
        await world.pass_time(timedelta(minutes=1))
    assert told == 1
    assert 5 < young.asked.count("cancel") < 15, "ever more seldom"
