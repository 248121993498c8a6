"""RunPod fails, lies, forgets or refuses: the person gets everything back, and is told why."""

from datetime import timedelta
from typing import Any

import pytest

from tests.flow.world import World, pictures
from worker import finish, submit, sweep
from worker.sweep import MAXIMUM_ATTEMPTS


async def refunded(world: World, generation_id: Any, person: Any, *, code: str) -> None:
    """The end of every story here."""
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["error"]["code"]) == ("failed", code)
    assert reply["cost"] == reply["cost"] | {"charged": 0, "refunded": reply["cost"]["quoted"], "held": 0}
    assert await world.credits_of(person) == (100, 0)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"error": "CUDA out of memory"}, "model-failed"),
        ({"status": "error", "message": "NSFW"}, "model-failed"),
        ({"result": "FAILED: no frames"}, "model-failed"),
        ([{"error": {"message": "context too long"}}], "model-failed"),
        ({}, "no-output"),
        ({"status": "success_no_images", "images": []}, "no-output"),
        ({"something": {"else": 1}}, "unreadable-output"),
        ({"images": ["bm90IGFuIGltYWdl"]}, "unreadable-output"),
        ({"images": ["bm90IGFuIGltYWdl" * 20]}, "unfit-output"),
        ({"images": ["https://127.0.0.1/secret.png"]}, "unfit-output"),
    ],
)
async def test_an_error_hidden_in_completed_is_a_failure(world: World, output: Any, code: str) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, output)
    await finish.finish_once(world.context)
    await refunded(world, generation_id, person, code=code)
    kept = await world.value("SELECT count(*) FROM generation_results WHERE generation_id = $1", generation_id)
    assert kept == 1, "the raw answer of a failure is kept for ops"


async def test_failed_at_runpod(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.fail(job.id, '{"error_type": "ValueError", "error_message": "boom", "hostname": "gpu-7"}')
    await world.poll_now()
    await world.settle_all()
    await refunded(world, generation_id, person, code="model-failed")
    shown = (await person.http.get(f"/v1/generations/{generation_id}")).text
    assert "gpu-7" not in shown, "what the worker says of itself is not for the person"


async def test_timed_out_at_runpod(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    job = world.runpod.take("image")
    assert job is not None
    world.runpod.time_out(job.id)
    await world.poll_now()
    await world.settle_all()
    await refunded(world, generation_id, person, code="timed-out")


async def test_a_404_is_waited_out_then_the_result_is_lost(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    (job,) = world.runpod.jobs("image")
    world.runpod.forget(job.id)
    await world.poll_now()
    assert await world.state(generation_id) == "submitted", "just after the submit a 404 proves nothing"
    await world.pass_time(world.context.settings.lost_grace)
    await world.poll_now()
    await refunded(world, generation_id, person, code="result-lost")


async def test_completed_without_output_because_it_was_too_large(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.weather.order("oversized_result")
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    await refunded(world, generation_id, person, code="no-output")


async def test_a_queue_that_never_moves_has_a_deadline(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await world.pass_time(world.context.settings.queue_deadline + timedelta(seconds=1))
    await world.poll_now()
    await refunded(world, generation_id, person, code="queue-deadline")
    assert len(world.runpod.calls_to("cancel")) == 1


async def test_a_run_that_never_ends_has_a_deadline(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.take("image")
    await world.poll_now()
    assert await world.state(generation_id) == "running"
    await world.execute("UPDATE generations SET deadline_at = now() - interval '1 second' WHERE id = $1", generation_id)
    await world.poll_now()
    await refunded(world, generation_id, person, code="run-deadline")


@pytest.mark.parametrize(("trouble", "reason"), [("rate_limited", "rate-limited"), ("paused", "endpoint-paused")])
async def test_429_and_409_are_nothing_happened(world: World, trouble: str, reason: str) -> None:
    person = await world.person()
    world.runpod.weather.order(trouble, operation="run", count=1)
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "reserved"
    assert (await world.reasons(generation_id))[-1] == reason
    assert await submit.submit_once(world.context) == 0, "not before the wait is over"
    await world.pass_time(timedelta(minutes=1))
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "submitted"
    assert await world.attempts(generation_id) == ["not_sent", "accepted"]


async def test_a_runpod_that_is_never_there_is_given_up_at_the_deadline(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused", operation="run")
    generation_id = await world.ask(person)
    for _ in range(3):
        await submit.submit_once(world.context)
        await world.pass_time(timedelta(minutes=8))
    await sweep.sweep_once(world.context)
    await refunded(world, generation_id, person, code="not-sent")


async def test_nobody_can_tell_and_no_webhook_comes(world: World) -> None:
    """Sent twice at most, on record, and refunded when RunPod never says a word."""
    person = await world.person()
    world.runpod.weather.order("timeout_before_accepting", operation="run")
    generation_id = await world.ask(person)
    for _ in range(MAXIMUM_ATTEMPTS + 1):
        await submit.submit_once(world.context)
        await world.pass_time(world.context.settings.submit_grace)
        await sweep.sweep_once(world.context)
    await refunded(world, generation_id, person, code="submission-unknown")
    assert await world.attempts(generation_id) == ["unknown"] * MAXIMUM_ATTEMPTS
    assert len(world.runpod.calls_to("run")) == MAXIMUM_ATTEMPTS
