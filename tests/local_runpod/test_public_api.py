"""What a client of RunPod sees: runpod.md §1, operation by operation."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.jobs import State
from tests.local.runpod.platform import Platform
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "a quiet sea", "seed": 7}}
JOB_GONE = {"status": 404, "title": "Not Found", "detail": "job not found"}


async def submitted(http: httpx.AsyncClient, **extra: Any) -> str:
    answer = await http.post("/text/run", json=ASK | extra)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def status(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    answer = await http.get(f"/text/status/{job_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@conforms("base", "run", "status", "status-repeatable", "status-progress", "in-queue", "in-progress", "completed")
async def test_a_job_is_queued_taken_shows_progress_and_completes(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    answer = await http.post("/text/run", json=ASK)
    job_id = answer.json()["id"]
    assert answer.json() == {"id": job_id, "status": "IN_QUEUE"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-u1", job_id)
    assert await status(http, job_id) == {"id": job_id, "status": "IN_QUEUE", "delayTime": 0, "executionTime": 0}

    clock.advance(2)
    job = runpod.take("text")
    assert job is not None
    assert (job.id, job.input) == (job_id, ASK["input"])
    clock.advance(0.5)
    runpod.progress(job_id, "50%")
    seen = await status(http, job_id)
    assert (seen["status"], seen["output"], seen["delayTime"]) == ("IN_PROGRESS", "50%", 2000)

    clock.advance(1)
    runpod.complete(job_id, {"images": []})
    assert await status(http, job_id) == {
        "id": job_id,
        "status": "COMPLETED",
        "delayTime": 2000,
        "executionTime": 1500,
        "output": {"images": []},
        "workerId": "scripted-worker",
    }
    assert await status(http, job_id) == await status(http, job_id)
    assert runpod.take("text") is None
    assert [call.job_id for call in runpod.calls_to("run")] == [job_id]


@conforms("unknown-keys", "s3-config")
async def test_keys_nobody_knows_never_reach_the_worker(runpod: Platform, http: httpx.AsyncClient) -> None:
    await submitted(http, s3Config={"bucketName": "b"}, webhookV2="http://us", mystery=1)
    job = runpod.take("text")
    assert job is not None
    assert job.as_work() == {"id": job.id, "input": ASK["input"], "s3Config": {"bucketName": "b"}}


@conforms("empty-input")
async def test_an_empty_input_is_tried_twice_and_fails(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job_id = (await http.post("/text/run", json={"input": {}})).json()["id"]
    for _ in range(2):
        job = runpod.take("text")
        assert job is not None
        assert job.as_work() == {"id": job_id}
        clock.advance(40)
        runpod.tick()
    seen = await status(http, job_id)
    assert (seen["status"], seen["error"], seen["retries"]) == ("FAILED", "job timed out after 1 retries", 1)


@conforms("runsync")
async def test_runsync_answers_when_the_job_has_ended(runpod: Platform, http: httpx.AsyncClient) -> None:
    asking = asyncio.create_task(http.post("/text/runsync", json=ASK))
    job = await runpod.next_job("text")
    runpod.complete(job.id, "done")
    body = (await asking).json()
    assert body["id"].startswith("sync-")
    assert (body["status"], body["output"]) == ("COMPLETED", "done")
    assert {"delayTime", "executionTime", "workerId"} <= body.keys()


@conforms("runsync-outlived", "runsync-retention", "runsync-wait")
async def test_runsync_that_outlives_its_wait_answers_id_and_state(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    asking = asyncio.create_task(http.post("/text/runsync?wait=1000", json=ASK))
    job = await runpod.next_job("text")
    clock.advance(1)
    assert (await asking).json() == {"id": job.id, "status": "IN_PROGRESS"}
    runpod.complete(job.id, "late")
    clock.advance(59)
    assert (await status(http, job.id))["output"] == "late"
    clock.advance(1)
    assert (await http.get(f"/text/status/{job.id}")).json() == JOB_GONE


@conforms("run-retention", "gone")
async def test_a_result_is_kept_thirty_minutes(runpod: Platform, http: httpx.AsyncClient, clock: ManualClock) -> None:
    job_id = await submitted(http)
    runpod.work_off("text", lambda _: "kept")
    clock.advance(30 * 60 - 1)
    assert (await status(http, job_id))["output"] == "kept"
    clock.advance(1)
    answer = await http.get(f"/text/status/{job_id}")
    assert (answer.status_code, answer.json()) == (404, JOB_GONE)


@pytest.mark.parametrize("taken", [False, True])
@conforms("ttl", "ttl-deletes-running", "gone")
async def test_the_ttl_deletes_the_job_even_while_it_runs(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock, taken: bool
) -> None:
    job_id = await submitted(http, policy={"ttl": 10_000}, webhook="http://us/hook")
    if taken:
        assert runpod.take("text") is not None
    clock.advance(10)
    assert (await http.get(f"/text/status/{job_id}")).status_code == 404
    assert runpod.take("text") is None
    assert await runpod.deliver_webhooks() == []


@conforms("status-ttl")
async def test_status_can_shorten_a_life(runpod: Platform, http: httpx.AsyncClient, clock: ManualClock) -> None:
    job_id = await submitted(http)
    assert (await http.get(f"/text/status/{job_id}?ttl=6000")).status_code == 200
    clock.advance(6)
    assert (await http.get(f"/text/status/{job_id}")).status_code == 404


@conforms("execution-timeout", "failed-cap")
async def test_a_job_over_its_execution_timeout_fails(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job_id = await submitted(http, policy={"executionTimeout": 5_000})
    clock.advance(60)  # waiting does not count
    assert runpod.take("text") is not None
    clock.advance(5)
    seen = await status(http, job_id)
    assert (seen["status"], seen["error"], seen["executionTime"]) == ("FAILED", "executionTimeout exceeded", 5000)


@pytest.mark.parametrize("taken", [False, True])
@conforms("cancel", "cancelled")
async def test_cancel_works_queued_and_running(runpod: Platform, http: httpx.AsyncClient, taken: bool) -> None:
    job_id = await submitted(http, webhook="http://us/hook")
    if taken:
        assert runpod.take("text") is not None
    answer = await http.post(f"/text/cancel/{job_id}")
    assert answer.json() == {"id": job_id, "status": "CANCELLED"}
    assert (await status(http, job_id))["status"] == "CANCELLED"
    assert runpod.take("text") is None
    assert await runpod.deliver_webhooks() == []


async def test_cancel_leaves_an_ended_job_as_it_is(runpod: Platform, http: httpx.AsyncClient) -> None:
    job_id = await submitted(http)
    runpod.work_off("text", lambda _: "done")
    assert (await http.post(f"/text/cancel/{job_id}")).json() == {"id": job_id, "status": "COMPLETED"}


@conforms("retry", "failed")
async def test_retry_queues_a_failed_job_again_under_its_id(runpod: Platform, http: httpx.AsyncClient) -> None:
    job_id = await submitted(http)
    assert (await http.post(f"/text/retry/{job_id}")).status_code == 400
    job = runpod.take("text")
    assert job is not None
    runpod.fail(job_id, "no luck", output={"detail": "x"})
    assert (await status(http, job_id))["output"] == {"detail": "x"}
    assert (await http.post(f"/text/retry/{job_id}")).json() == {"id": job_id, "status": "IN_QUEUE"}
    assert {"output", "error"}.isdisjoint(await status(http, job_id))
    runpod.work_off("text", lambda _: "second time")
    assert (await status(http, job_id))["output"] == "second time"


@conforms("purge", "gone")
async def test_purge_removes_what_waits_and_nothing_else(runpod: Platform, http: httpx.AsyncClient) -> None:
    running = await submitted(http)
    assert runpod.take("text") is not None
    waiting = [await submitted(http) for _ in range(2)]
    assert (await http.post("/text/purge-queue")).json() == {"removed": 2, "status": "completed"}
    assert (await http.get(f"/text/status/{waiting[0]}")).json() == JOB_GONE
    assert (await status(http, running))["status"] == "IN_PROGRESS"


@conforms("health")
async def test_health_counts_jobs_and_six_kinds_of_worker(runpod: Platform, http: httpx.AsyncClient) -> None:
    for _ in range(3):
        await submitted(http)
    runpod.expect("text", "starting")
    taken = runpod.take("text")
    assert taken is not None
    assert (await http.get("/text/health")).json() == {
        "jobs": {"completed": 0, "failed": 0, "inProgress": 1, "inQueue": 2, "retried": 0},
        "workers": {"idle": 0, "initializing": 1, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0},
    }
    runpod.complete(taken.id)
    runpod.work_off("text", lambda _: 1 / 0)
    assert (await http.get("/text/health")).json()["jobs"] == {
        "completed": 1,
        "failed": 2,
        "inProgress": 0,
        "inQueue": 0,
        "retried": 0,
    }


@conforms("stream", "stream-drain", "stream-chunk")
async def test_stream_gives_each_chunk_once(runpod: Platform, http: httpx.AsyncClient) -> None:
    job_id = await submitted(http)
    assert (await http.get(f"/text/stream/{job_id}?wait=0")).json() == {"status": "IN_QUEUE", "stream": []}
    assert runpod.take("text") is not None
    runpod.stream(job_id, "Hel")
    runpod.stream(job_id, "lo")
    first = (await http.get(f"/text/stream/{job_id}")).json()
    assert first == {"status": "IN_PROGRESS", "stream": [{"output": "Hel"}, {"output": "lo"}]}
    runpod.stream(job_id, "x" * 1_500_000)
    split = (await http.get(f"/text/stream/{job_id}")).json()["stream"]
    assert [len(chunk["output"]) for chunk in split] == [1_000_000, 500_000]
    runpod.complete(job_id, [])
    assert (await http.get(f"/text/stream/{job_id}")).json() == {"status": "COMPLETED", "stream": []}


@conforms("requests")
async def test_requests_lists_the_jobs(runpod: Platform, http: httpx.AsyncClient) -> None:
    job_id = await submitted(http)
    listed = (await http.get("/text/requests")).json()["requests"]
    assert [(job["id"], job["status"]) for job in listed] == [(job_id, "IN_QUEUE")]


@conforms("failed-lost", "status-retry-times")
async def test_a_lost_job_is_run_once_more_and_then_fails(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    job_id = await submitted(http)
    clock.advance(5)
    assert runpod.take("text") is not None
    clock.advance(7)
    assert runpod.lose(job_id).state is State.IN_QUEUE
    assert (await http.get("/text/health")).json()["jobs"]["retried"] == 1
    clock.advance(3)
    assert runpod.take("text") is not None
    clock.advance(2)
    runpod.lose(job_id)
    seen = await status(http, job_id)
    assert (seen["status"], seen["error"], seen["retries"]) == ("FAILED", "job timed out after 1 retries", 1)
    assert (seen["delayTime"], seen["executionTime"]) == (3000, 2000)  # of the last attempt alone
