"""What a worker sees: runpod.md §3.3, spoken by hand."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.door import client
from tests.local.runpod.jobs import Job, State
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import Rules
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "hi"}}
TAKE = "/text/job-take/w1?gpu=CPU&job_in_progress=0"


async def taken(runpod: Platform, http: httpx.AsyncClient, worker_id: str = "w1") -> Job:
    job = runpod.submit("text", ASK)
    answer = await http.get(f"/text/job-take/{worker_id}?gpu=CPU&job_in_progress=0")
    assert answer.json() == {"id": job.id, "input": ASK["input"]}
    return job


async def report(http: httpx.AsyncClient, job: Job, said: Any, operation: str = "job-done") -> int:
    answer = await http.post(
        f"/text/{operation}/w1/{job.id}?gpu=CPU&isStream=false",
        content=orjson.dumps(said),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    return answer.status_code


async def test_a_worker_waits_for_a_job_and_gets_it_at_once(runpod: Platform, http: httpx.AsyncClient) -> None:
    asking = asyncio.create_task(http.get(TAKE))
    while not runpod.endpoint("text").workers:
        await asyncio.sleep(0)
    job = runpod.submit("text", ASK)
    assert (await asking).json()["id"] == job.id
    assert (job.state, job.worker_id) == (State.IN_PROGRESS, "w1")


async def test_without_a_job_the_answer_is_204() -> None:
    runpod = Platform(["text"], rules=Rules(take_hold_seconds=0))
    async with client(runpod) as http:
        assert (await http.get(TAKE)).status_code == 204
        assert (await http.get("/text/job-stop/w1?gpu=CPU")).status_code == 204


async def test_a_worker_may_take_a_batch(runpod: Platform, http: httpx.AsyncClient) -> None:
    jobs = [runpod.submit("text", ASK) for _ in range(3)]
    answer = await http.get("/text/job-take-batch/w1?gpu=CPU&batch_size=2&job_in_progress=0")
    assert [job["id"] for job in answer.json()] == [job.id for job in jobs[:2]]


@pytest.mark.parametrize(
    ("said", "state", "shown"),
    [
        ({"output": [1]}, "COMPLETED", {"output": [1]}),
        ({"output": {"status": "error"}}, "COMPLETED", {"output": {"status": "error"}}),
        ({"output": None}, "COMPLETED", {}),
        ({}, "COMPLETED", {}),
        ({"output": []}, "COMPLETED", {}),
        ({"output": "x", "stopPod": True}, "COMPLETED", {"output": "x"}),
        ({"error": "broke"}, "FAILED", {"error": "broke"}),
        ({"error": {"code": 7}}, "FAILED", {"error": {"code": 7}}),
        ({"error": "soft", "output": {"detail": "d"}}, "FAILED", {"error": "soft", "output": {"detail": "d"}}),
        ({"status": "IN_PROGRESS", "output": "50%"}, "IN_PROGRESS", {"output": "50%"}),
    ],
)
@conforms("completed-error", "completed-without-output", "failed")
async def test_what_a_worker_reports_is_what_the_client_sees(
    runpod: Platform, http: httpx.AsyncClient, said: Any, state: str, shown: dict[str, Any]
) -> None:
    job = await taken(runpod, http)
    assert await report(http, job, said) == 200
    seen = (await http.get(f"/text/status/{job.id}")).json()
    assert seen["status"] == state
    assert {key: seen[key] for key in ("output", "error") if key in seen} == shown


@conforms("cancel-worker")
async def test_a_result_that_comes_too_late_changes_nothing(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job = await taken(runpod, http)
    runpod.cancel(job)
    assert await report(http, job, {"output": "late"}) == 200
    assert job.state is State.CANCELLED
    assert (await http.get("/text/job-stop/w1?gpu=CPU")).json() == {"jobsToStop": [job.id]}


async def test_a_stream_reaches_the_client_piece_by_piece(runpod: Platform, http: httpx.AsyncClient) -> None:
    job = await taken(runpod, http)
    for piece in ("a", {"b": 1}):
        assert await report(http, job, {"output": piece}, "job-stream") == 200
    streamed = (await http.get(f"/text/stream/{job.id}")).json()["stream"]
    assert streamed == [{"output": "a"}, {"output": {"b": 1}}]


@conforms("failed-lost")
async def test_a_worker_that_falls_silent_loses_its_job(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job = await taken(runpod, http)
    clock.advance(29)
    assert (await http.get(f"/text/ping/w1?gpu=CPU&job_id={job.id}&runpod_version=1.12.0")).status_code == 200
    clock.advance(29)
    runpod.tick()
    assert job.state is State.IN_PROGRESS
    clock.advance(1)
    runpod.tick()
    assert (job.state, job.retries) == (State.IN_QUEUE, 1)
    assert (await http.get("/text/health")).json()["workers"]["unhealthy"] == 1

    assert (await http.get("/text/job-take/w2?gpu=CPU")).json()["id"] == job.id
    assert await report(http, job, {"output": "from the dead"}) == 200  # w1 wakes up: it holds nothing any more
    assert job.state is State.IN_PROGRESS
    clock.advance(30)
    runpod.tick()
    assert (job.state, job.error) == (State.FAILED, "job timed out after 1 retries")


@conforms("completed-without-output")
async def test_a_result_over_the_limit_completes_without_output(clock: ManualClock) -> None:
    runpod = Platform(["text"], clock=clock, rules=Rules(result_body_bytes=1_000))
    async with client(runpod) as http:
        job = await taken(runpod, http)
        assert await report(http, job, {"output": "x" * 1_000}) == 400
    assert job.state is State.COMPLETED
    assert "output" not in job.as_status(clock())


@pytest.mark.parametrize("content", [b"{", b"7", b"\xff"])
async def test_nonsense_from_a_worker_is_refused(runpod: Platform, http: httpx.AsyncClient, content: bytes) -> None:
    job = await taken(runpod, http)
    answer = await http.post(f"/text/job-done/w1/{job.id}?gpu=CPU", content=content)
    assert answer.status_code == 400
    assert job.state is State.IN_PROGRESS


async def test_a_stranger_is_kept_out_and_an_announced_worker_is_let_in(
    runpod: Platform, http: httpx.AsyncClient
) -> None:
    strange = {"authorization": "some other key"}
    assert (await http.get("/text/ping/w9", headers=strange)).status_code == 401
    runpod.expect("text", "w9")
    assert (await http.get("http://runpod.test/healthz")).json() == {"waiting_for": ["w9"]}
    assert (await http.get("/text/ping/w9", headers=strange)).status_code == 200
    assert (await http.get("http://runpod.test/healthz")).status_code == 200
    assert (await http.get("/nowhere/ping/w9")).status_code == 404
