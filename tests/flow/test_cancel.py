"""A person changes their mind: before RunPod has it, while it is being told, after it has it, and too late."""

from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from tests.flow.world import World, pictures
from worker import finish, poll, submit, sweep
from worker.runpod import RunPod, open_http


async def test_before_submission_it_settles_at_once(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    reply = await person.http.post(f"/v1/generations/{generation_id}/cancel")
    assert reply.status_code == 202
    assert await submit.submit_once(world.context) == 0, "a cancelled generation is not sent"
    await sweep.sweep_once(world.context)
    assert await world.path(generation_id) == ["reserved", "cancelled"]
    assert await world.credits_of(person) == (100, 0)
    assert not world.runpod.calls_to("run")


async def test_while_the_call_is_under_way(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    (claimed,) = await submit.claim(world.context, 10)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await submit.send(world.context, claimed)
    assert await poll.poll_once(world.context) == 1, "the submit saw the flag and made the row due"
    assert await world.path(generation_id) == ["reserved", "submitting", "submitted", "cancelled"]
    assert len(world.runpod.calls_to("cancel")) == 1
    assert await world.credits_of(person) == (100, 0)


async def test_after_submission_runpod_is_told(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    job = world.runpod.take("image")
    assert job is not None
    await world.poll_now()
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await poll.poll_once(world.context)
    assert await world.path(generation_id) == ["reserved", "submitting", "submitted", "running", "cancelled"]
    assert job.state == "CANCELLED"
    assert await world.credits_of(person) == (100, 0)


async def test_twice_is_once(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    for _ in range(2):
        assert (await person.http.post(f"/v1/generations/{generation_id}/cancel")).status_code == 202
    await sweep.sweep_once(world.context)
    assert await world.path(generation_id) == ["reserved", "cancelled"]
    again = await person.http.post(f"/v1/generations/{generation_id}/cancel")
    assert again.status_code in (200, 202, 409)
    assert await world.credits_of(person) == (100, 0)


async def test_when_it_completed_first_it_is_delivered_and_charged(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.work_off("image", pictures(1))
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await poll.poll_once(world.context)
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "completed"
    assert await world.credits_of(person) == (95, 0)
    assert not world.runpod.calls_to("cancel")


async def test_when_it_completes_while_runpod_is_told_it_is_delivered_and_charged(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    job = {"id": await world.value("SELECT remote_id FROM generations WHERE id = $1", generation_id)}

    def answer(request: httpx.Request) -> httpx.Response:
        done = request.method == "POST"
        return httpx.Response(200, json={**job, "status": "COMPLETED" if done else "IN_PROGRESS"})

    async with open_http(world.context.settings, transport=httpx.MockTransport(answer)) as http:
        racing = replace(world.context, runpod=RunPod(http))
        await poll.poll_once(racing)
    assert await world.state(generation_id) == "submitted", "its result is there: it is not thrown away"
    world.work_off("image", pictures(1))
    await poll.poll_once(world.context)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5


@pytest.mark.parametrize("by", ["person", "deadline"])
async def test_a_runpod_that_says_one_thing_here_and_another_there_keeps_nobody_waiting(world: World, by: str) -> None:
    """/cancel says that it completed, /status that it runs: its result is waited for, but not for ever."""
    person = await world.person()
    generation_id = await world.submitted(person)
    job = {"id": await world.value("SELECT remote_id FROM generations WHERE id = $1", generation_id)}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={**job, "status": "COMPLETED" if request.method == "POST" else "IN_QUEUE"})

    if by == "person":
        await person.http.post(f"/v1/generations/{generation_id}/cancel")
    else:
        await world.pass_time(world.context.settings.queue_deadline)
    async with open_http(world.context.settings, transport=httpx.MockTransport(answer)) as http:
        lying = replace(world.context, runpod=RunPod(http))
        await poll.poll_once(lying)
        assert await world.state(generation_id) == "submitted", "its result may be there in a moment"
        await world.pass_time(timedelta(minutes=2))
        await poll.poll_once(lying)
        assert await world.state(generation_id) == "submitted"
        assert await world.value("SELECT due_at > now() FROM generations"), "and is not asked for without a pause"
        await world.pass_time(timedelta(minutes=30))
        await poll.poll_once(lying)
    assert await world.state(generation_id) == ("cancelled" if by == "person" else "failed")
    assert await world.credits_of(person) == (100, 0)


async def test_too_late_when_finishing(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    assert (await person.http.post(f"/v1/generations/{generation_id}/cancel")).status_code == 409
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5


async def test_a_runpod_that_does_not_answer_keeps_nobodys_credits(world: World) -> None:
    """After a minute of asking, the person is refunded; the sweep goes on telling RunPod."""
    person = await world.person()
    generation_id = await world.submitted(person)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    world.runpod.weather.order("server_error")
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "submitted"
    await world.pass_time(timedelta(minutes=2))
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "cancelled"
    assert await world.credits_of(person) == (100, 0)
    world.runpod.weather.clear()
    assert await sweep.cancel_orphans(world.context) == 1
    assert await sweep.cancel_orphans(world.context) == 0
    (job,) = world.runpod.jobs("image")
    assert job.state == "CANCELLED"


async def test_somebody_elses_generation_is_not_there(world: World) -> None:
    person, stranger = await world.person(), await world.person()
    generation_id = await world.ask(person)
    assert (await stranger.http.post(f"/v1/generations/{generation_id}/cancel")).status_code == 404
    await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "reserved"
    await world.settle_all()
