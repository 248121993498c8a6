"""Calls that wait for something: runsync, status-sync and stream, and what ends the wait."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from tests.local.runpod.app import Gateway
from tests.local.runpod.clock import ManualClock
from tests.local.runpod.jobs import Job
from tests.local.runpod.platform import Platform
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "a quiet sea"}}


async def held(runpod: Platform, call: Coroutine[Any, Any, httpx.Response]) -> asyncio.Task[httpx.Response]:
    """Make a call and return once it is held open."""
    asking = asyncio.create_task(call)
    while not runpod.endpoint("text").changed.watched:
        await asyncio.sleep(0)
    return asking


async def answered_after(
    seconds: float, runpod: Platform, clock: ManualClock, asking: asyncio.Task[httpx.Response]
) -> bool:
    """Let time pass and everybody look at the clock; say whether the call was answered."""
    clock.advance(seconds)
    runpod.endpoint("text").changed.beat()
    await asyncio.wait({asking}, timeout=0.05)
    return asking.done()


@pytest.fixture
def job(runpod: Platform) -> Job:
    submitted = runpod.submit("text", ASK)
    runpod.take("text")
    return submitted


@conforms("runsync-wait")
async def test_runsync_waits_ninety_seconds_when_nothing_is_said(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    asking = await held(runpod, http.post("/text/runsync", json=ASK))
    assert not await answered_after(89.9, runpod, clock, asking)
    assert await answered_after(0.1, runpod, clock, asking)
    (job,) = runpod.jobs("text")
    assert asking.result().json() == {"id": job.id, "status": "IN_QUEUE"}


@conforms("status-sync")
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_status_sync_answers_when_the_job_has_ended(
    runpod: Platform, http: httpx.AsyncClient, job: Job, method: str
) -> None:
    asking = await held(runpod, http.request(method, f"/text/status-sync/{job.id}"))
    runpod.complete(job.id, "done")
    seen = (await asking).json()
    assert seen == (await http.get(f"/text/status/{job.id}")).json()
    assert seen["output"] == "done"


@conforms("status-sync")
async def test_status_sync_that_outlives_its_wait_says_where_the_job_stands(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock, job: Job
) -> None:
    asking = await held(runpod, http.get(f"/text/status-sync/{job.id}?wait=2000"))
    assert not await answered_after(1.9, runpod, clock, asking)
    assert await answered_after(0.1, runpod, clock, asking)
    assert asking.result().json()["status"] == "IN_PROGRESS"


@pytest.mark.parametrize(("method", "path"), [("GET", "status-sync/{}"), ("GET", "stream/{}"), ("POST", "runsync")])
async def test_nothing_is_held_for_whoever_hangs_up(runpod: Platform, job: Job, method: str, path: str) -> None:
    heard: list[Any] = [
        {"type": "http.request", "body": b'{"input":{"a":1}}', "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return heard.pop(0)

    async def send(message: Any) -> None:
        pytest.fail(f"an answer to nobody: {message}")

    key = f"Bearer {runpod.rules.api_key}".encode()
    scope = {"type": "http", "method": method, "path": f"/v2/text/{path.format(job.id)}", "query_string": b""}
    async with asyncio.timeout(5):
        await Gateway(runpod)(scope | {"headers": [(b"authorization", key)]}, receive, send)


@conforms("stream-wait", "stream-hold")
@pytest.mark.parametrize(("query", "seconds"), [("?wait=3000", 3), ("", 8)])
async def test_stream_holds_until_there_is_a_chunk_or_the_wait_is_over(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock, job: Job, query: str, seconds: float
) -> None:
    asking = await held(runpod, http.get(f"/text/stream/{job.id}{query}"))
    assert not await answered_after(seconds - 0.1, runpod, clock, asking)
    assert await answered_after(0.1, runpod, clock, asking)
    assert asking.result().json() == {"status": "IN_PROGRESS", "stream": []}

    asking = await held(runpod, http.get(f"/text/stream/{job.id}{query}"))
    runpod.stream(job.id, "now")
    assert (await asking).json()["stream"] == [{"output": "now"}]
