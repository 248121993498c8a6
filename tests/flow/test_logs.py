"""A log is kept longer than what a person deletes, and read by more people: nothing of theirs is in it."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import structlog

from tests.flow.world import World, pictures
from worker import finish, poll, stream, submit
from worker.runpod import RunPod, open_http

SECRET = "my daughter Anna at 5 Elm Street"
Told = list[MutableMapping[str, Any]]


@pytest.fixture
def told() -> Iterator[Told]:
    """What was logged."""
    with structlog.testing.capture_logs() as entries:
        yield entries


def of(told: Told, event: str) -> MutableMapping[str, Any]:
    """The one entry of an event; none at all tells of the person."""
    for entry in told:
        assert "Anna" not in str(entry)
        assert "/v1/media/" not in str(entry), "an address that shows a picture of theirs"
    (found,) = [entry for entry in told if entry["event"] == event]
    return found


@pytest.mark.parametrize("kind", ["image", "text"])
async def test_what_a_model_says_of_a_prompt_is_not_logged(world: World, told: Told, kind: str) -> None:
    person = await world.person()
    refusal = {"error": f"refused by the filter: {SECRET[:20].upper()}, {SECRET}"}
    generation_id = await world.finishing(person, refusal, type=kind, prompt=SECRET)
    await world.pass_time(timedelta(minutes=1))
    await world.execute("UPDATE generation_results SET received_at = received_at - interval '1 minute'")
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert of(told, "model.failed")["code"] == "model-failed"


async def test_what_fails_at_runpod_with_a_prompt_in_its_traceback(world: World, told: Told) -> None:
    person = await world.person()
    await world.submitted(person, prompt=SECRET)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.fail(job.id, f"KeyError: {SECRET!r}")
    await world.poll_now()
    await world.settle_all()
    assert of(told, "model.failed")["code"] == "model-failed"


def echo(status: int) -> Callable[[httpx.Request], httpx.Response]:
    """Says back what it was sent, as gateways do that are proud of their errors."""
    return lambda request: httpx.Response(status, content=b"cannot handle " + request.content + SECRET.encode())


@pytest.mark.parametrize(("status", "event"), [(400, "runpod.refused"), (502, "runpod.unknown")])
async def test_what_runpod_says_of_a_request_is_not_logged_nor_where_its_picture_is(
    world: World, told: Told, status: int, event: str
) -> None:
    person = await world.person()
    source = await world.finishing(person, pictures(1))
    await finish.finish_once(world.context)
    generation_id = await world.ask(person, type="modify", prompt=SECRET, source={"generation_id": str(source)})
    async with open_http(world.context.settings, transport=httpx.MockTransport(echo(status))) as http:
        await submit.submit_once(replace(world.context, runpod=RunPod(http)))
    assert of(told, event)["reason"] == f"HTTP {status}"
    kept = await world.value("SELECT detail FROM generation_attempts WHERE generation_id = $1", generation_id)
    assert kept.startswith(f"HTTP {status}: cannot handle"), "for ops, until it is erased"
    await world.pass_time(timedelta(hours=1))
    await world.settle_all()


@pytest.mark.parametrize(("step", "event"), [("poll", "runpod.unknown"), ("stream", "stream.unknown")])
async def test_what_is_said_of_a_job_is_not_logged(world: World, told: Told, step: str, event: str) -> None:
    person = await world.person()
    await world.submitted(person, type="text", prompt=SECRET)
    await world.execute("UPDATE generations SET due_at = now() WHERE state = 'submitted'")
    async with open_http(world.context.settings, transport=httpx.MockTransport(echo(502))) as http:
        there = replace(world.context, runpod=RunPod(http))
        await (poll.poll_once(there) if step == "poll" else stream.stream_once(there))
    assert of(told, event)["reason"] == "HTTP 502"
    world.work_off("text", "a poem")
    await world.poll_now()
    await world.settle_all()
