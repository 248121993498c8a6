"""What a job's answer has in it, state by state: runpod.md §1.4 and the live samples."""

from typing import Any

import httpx
import pytest

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.jobs import State
from tests.local.runpod.platform import Platform
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "a quiet sea"}}
HOUR_SECONDS = 3_600
THE_MOST = {"executionTimeout": 604_800_000, "ttl": 604_800_000}


async def status(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await http.get(f"/text/status/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@conforms("never-running")
def test_running_is_a_state_that_is_never_told() -> None:
    assert {str(state) for state in State} == {
        *("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"),
    }


@conforms("200-failed", "failed", "status-failure", "status-worker")
async def test_a_failed_job_is_a_call_that_worked(runpod: Platform, http: httpx.AsyncClient) -> None:
    job = runpod.submit("text", ASK)
    assert (await status(http, job.id)).keys() == {"id", "status", "delayTime", "executionTime"}
    runpod.take("text")
    assert (await status(http, job.id)).keys() == {"id", "status", "delayTime", "executionTime", "workerId"}
    runpod.fail(job.id, "no luck")
    seen = await status(http, job.id)
    assert (seen["status"], seen["error"]) == ("FAILED", "no luck")
    assert seen.keys() == {"id", "status", "delayTime", "executionTime", "workerId", "error"}


@conforms("status-output")
@pytest.mark.parametrize(("output", "shown"), [("text", True), ([], True), ({}, True), (False, True), (None, False)])
async def test_output_is_there_only_when_there_is_one(
    runpod: Platform, http: httpx.AsyncClient, output: Any, shown: bool
) -> None:
    job = runpod.submit("text", ASK)
    runpod.work_off("text", lambda _: output)
    assert ("output" in await status(http, job.id)) == shown
    assert (await status(http, job.id)).get("output") == output


@conforms("failed-lost-sample", "status-failure")
async def test_a_job_lost_twice_looks_like_the_captured_one(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job = runpod.submit("text", ASK)
    for _ in range(2):
        clock.advance(101.05)
        assert runpod.take("text") is job
        clock.advance(42.078)
        runpod.lose(job.id)
    assert await status(http, job.id) == {
        "delayTime": 101050,
        "error": "job timed out after 1 retries",
        "executionTime": 42078,
        "id": job.id,
        "retries": 1,
        "status": "FAILED",
        "workerId": "scripted-worker",
    }


@conforms("timed-out", "retry")
async def test_a_timed_out_job_can_be_retried(runpod: Platform, http: httpx.AsyncClient) -> None:
    job = runpod.submit("text", ASK)
    runpod.time_out(job.id)
    assert (await status(http, job.id))["status"] == "TIMED_OUT"
    assert (await http.post(f"/text/retry/{job.id}")).json() == {"id": job.id, "status": "IN_QUEUE"}
    runpod.work_off("text", lambda _: "in time")
    assert (await http.post(f"/text/retry/{job.id}")).status_code == 400
    assert (await status(http, job.id))["output"] == "in time"


@conforms("retry-retention")
async def test_a_retry_after_the_retention_finds_nothing(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job = runpod.submit("text", ASK)
    runpod.take("text")
    runpod.fail(job.id, "no luck")
    clock.advance(1_800)
    assert (await http.post(f"/text/retry/{job.id}")).status_code == 404


@conforms("execution-timeout-bounds")
@pytest.mark.parametrize(
    ("policy", "seconds"), [({}, 600), ({"executionTimeout": 7 * 86_400_000, "ttl": 604_800_000}, None)]
)
async def test_a_run_may_take_ten_minutes_unless_it_is_said(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock, policy: dict[str, int], seconds: float | None
) -> None:
    job = runpod.submit("text", ASK | {"policy": policy})
    runpod.take("text")
    clock.advance((seconds or 6.9 * 86_400) - 0.1)
    assert (await status(http, job.id))["status"] == "IN_PROGRESS"
    if seconds is not None:
        clock.advance(0.1)
        assert (await status(http, job.id))["error"] == "executionTimeout exceeded"


@conforms("ttl-bounds")
async def test_a_job_lives_a_day_unless_it_is_said(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job = runpod.submit("text", ASK)
    clock.advance(24 * HOUR_SECONDS - 1)
    assert (await status(http, job.id))["status"] == "IN_QUEUE"
    clock.advance(1)
    assert (await http.get(f"/text/status/{job.id}")).status_code == 404


@conforms("low-priority")
async def test_a_job_may_say_that_it_is_not_urgent(runpod: Platform) -> None:
    urgent = runpod.submit("text", ASK)
    patient = runpod.submit("text", ASK | {"policy": {"lowPriority": True}})
    assert (urgent.policy.low_priority, patient.policy.low_priority) == (False, True)
    assert [runpod.take("text"), runpod.take("text")] == [urgent, patient]
