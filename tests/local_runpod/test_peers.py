"""Unmodified `runpod` SDK workers in every mood, and both official clients, over TCP; the time is turned by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import runpod as sdk
from runpod.http_client import AsyncClientSession

from tests.local.runpod.fleet import Crew
from tests.local.runpod.rules import Rules
from tests.local_runpod.conformance import conforms
from tests.local_runpod.workers import Peers, at_work

PEERS = Path(__file__).parent / "peers"
NAMES = ("moody", "generating", "yielding", "batching", "refreshing")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peers() -> AsyncIterator[Peers]:
    crews = [Crew(name, PEERS / f"{name}.py") for name in NAMES]
    async with at_work(crews, Rules(unusable_input_seconds=5)) as peers:
        yield peers


@conforms("completed", "failed")
async def test_what_a_handler_returns_or_raises_is_told(peers: Peers) -> None:
    seen = await peers.made("moody", mood="raises")
    assert seen["status"] == "FAILED"
    told = json.loads(seen["error"])
    assert (told["error_type"], told["error_message"]) == ("<class 'ValueError'>", "no luck")
    assert told["worker_id"] == seen["workerId"]

    soft = await peers.made("moody", mood="soft error")
    assert (soft["status"], soft["error"], soft["output"]) == ("FAILED", "soft failure", {"detail": "the rest of it"})
    assert (await peers.made("moody", mood="error as dict"))["error"] == {"code": 7}
    assert "output" not in await peers.made("moody", mood="returns nothing")
    assert (await peers.made("moody", mood="fine"))["status"] == "COMPLETED"


@conforms("failed-cap")
async def test_a_result_that_cannot_be_sent_hangs_the_job_until_its_timeout(peers: Peers) -> None:
    job_id = await peers.run("moody", {"mood": "unserialisable"}, policy={"executionTimeout": 5_000})
    await peers.until(lambda: [line for line in peers.said if "Error while returning job result" in line])
    assert (await peers.status("moody", job_id))["status"] == "IN_PROGRESS"
    peers.clock.advance(5)
    seen = await peers.ended("moody", job_id)
    assert (seen["status"], seen["error"]) == ("FAILED", "executionTimeout exceeded")
    assert (await peers.made("moody", mood="fine"))["status"] == "COMPLETED"


@conforms("empty-input")
async def test_an_empty_input_is_no_job_to_the_worker(peers: Peers) -> None:
    job_id = await peers.run("moody", {})
    for attempt in (1, 2):
        await peers.taken(job_id, attempt)
        peers.clock.advance(5)
    assert (await peers.ended("moody", job_id))["error"] == "job timed out after 1 retries"
    assert any("Job has missing field(s): id or input." in line for line in peers.said)


@conforms("status-progress", "cancel", "cancel-worker")
async def test_progress_is_shown_and_a_cancelled_job_is_stopped_in_a_worker_that_lives_on(peers: Peers) -> None:
    pid = (await peers.made("moody", mood="fine"))["output"]["pid"]
    job_id = await peers.run("moody", {"mood": "is never done"})
    await peers.until(lambda: peers.platform.job(job_id).output == "50%")
    seen = await peers.status("moody", job_id)
    assert (seen["status"], seen["output"]) == ("IN_PROGRESS", "50%")
    answer = await peers.http.post(f"/moody/cancel/{job_id}")
    assert answer.json() == {"id": job_id, "status": "CANCELLED"}
    assert (await peers.made("moody", mood="fine"))["output"] == {"pid": pid}


@conforms("failed-lost")
async def test_a_handler_that_dies_is_run_once_more(peers: Peers, tmp_path: Path) -> None:
    seen = await peers.made("moody", mood="dies once", marker=str(tmp_path / "died"))
    assert (seen["status"], seen["retries"]) == ("COMPLETED", 1)
    assert any("died (exit code 3)" in line for line in peers.said)


async def test_a_crash_ordered_kills_the_worker(peers: Peers) -> None:
    peers.platform.weather.order("worker_crash", endpoint="batching", count=1)
    job_ids = [await peers.run("batching", {"prompt": "hi"}) for _ in range(3)]
    seen = [await peers.ended("batching", job_id) for job_id in job_ids]
    assert {job["status"] for job in seen} == {"COMPLETED"}
    assert max(job.get("retries", 0) for job in seen) == 1
    assert any("batching-1 died (SIGKILL)" in line for line in peers.said)


async def test_a_worker_can_hold_several_jobs(peers: Peers) -> None:
    job_ids = [await peers.run("batching", {"prompt": "hi"}) for _ in range(3)]
    seen = [await peers.ended("batching", job_id) for job_id in job_ids]
    assert len({(job["output"], job["workerId"]) for job in seen}) == 1


@conforms("stream", "stream-drain")
async def test_a_generator_is_streamed_and_aggregated_only_if_it_says_so(peers: Peers) -> None:
    pieces = ["a", {"b": 1}, "c"]
    streamed = [{"output": piece} for piece in pieces]
    for name, output in (("generating", pieces), ("yielding", None)):
        job_id = await peers.run(name, {"pieces": pieces})
        seen = await peers.ended(name, job_id)
        assert (seen["status"], seen.get("output")) == ("COMPLETED", output)
        stream = (await peers.http.get(f"/{name}/stream/{job_id}")).json()
        assert stream == {"status": "COMPLETED", "stream": streamed}
        assert (await peers.http.get(f"/{name}/stream/{job_id}")).json()["stream"] == []


async def test_a_generator_that_breaks_off_fails_and_leaves_what_it_had_streamed(peers: Peers) -> None:
    job_id = await peers.run("generating", {"pieces": ["a", "b"], "breaks_at": 1})
    seen = await peers.ended("generating", job_id)
    assert seen["status"] == "FAILED"
    assert seen["error"].startswith("handler: broke off \ntraceback: ")
    assert (await peers.http.get(f"/generating/stream/{job_id}")).json()["stream"] == [{"output": "a"}]


@pytest.mark.parametrize(
    ("name", "asked", "pid_in"),
    [
        ("refreshing", {"prompt": "hi"}, lambda output: output),
        ("moody", {"mood": "asks for a refresh"}, lambda output: output["pid"]),
    ],
)
async def test_a_worker_that_wants_to_be_refreshed_is_replaced(
    peers: Peers, name: str, asked: dict[str, Any], pid_in: Callable[[Any], int]
) -> None:
    seen = [await peers.made(name, **asked) for _ in range(2)]
    assert [(job["status"], "retries" in job) for job in seen] == [("COMPLETED", False)] * 2
    assert len({pid_in(job["output"]) for job in seen}) == len({job["workerId"] for job in seen}) == 2
    assert f"worker {name}-1 is replaced by a fresh one" in peers.said


@pytest.fixture
def key(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> str:
    # What RUNPOD_ENDPOINT_BASE_URL sets when the SDK is imported.
    monkeypatch.setattr(sdk, "endpoint_url_base", peers.url)
    return peers.platform.rules.api_key


@conforms("auth-bearer", "request-id")
async def test_the_official_async_client_does_all_it_can(peers: Peers, key: str) -> None:
    async with AsyncClientSession() as session:
        moody = sdk.AsyncioEndpoint("moody", session, api_key=key)
        job = await moody.run({"mood": "soft error"})
        await peers.ended("moody", job.job_id)
        assert (await job.status(), await job.output(timeout=5)) == ("FAILED", {"detail": "the rest of it"})
        assert (await moody.health())["workers"]["idle"] == 1
        assert await moody.purge_queue() == {"removed": 0, "status": "completed"}

        endless = await moody.run({"mood": "is never done"})
        assert await endless.status() in {"IN_QUEUE", "IN_PROGRESS"}
        assert await endless.cancel() == {"id": endless.job_id, "status": "CANCELLED"}
        assert await endless.status() == "CANCELLED"

        streaming = await sdk.AsyncioEndpoint("yielding", session, api_key=key).run({"pieces": ["a", "b"]})
        assert [piece async for piece in streaming.stream()] == ["a", "b"]


async def test_the_official_client_does_all_it_can(peers: Peers, key: str) -> None:
    def use_it() -> None:
        generating = sdk.Endpoint("generating", api_key=key)
        asked = {"pieces": ["a", "b"]}
        assert generating.run_sync(asked) == ["a", "b"]
        job = generating.run({"input": asked, "webhook": "http://127.0.0.1:9/", "policy": {"ttl": 60_000}})
        assert list(job.stream()) == ["a", "b"]
        assert (job.status(), job.output(timeout=5)) == ("COMPLETED", ["a", "b"])
        assert generating.health()["jobs"]["inQueue"] == 0
        assert generating.purge_queue() == {"removed": 0, "status": "completed"}
        running = sdk.Endpoint("moody", api_key=key).run({"mood": "is never done"})
        assert running.cancel() == {"id": running.job_id, "status": "CANCELLED"}
        assert running.status() == "CANCELLED"
        with pytest.raises(RuntimeError, match="401"):
            sdk.Endpoint("moody", api_key="wrong").health()

    await asyncio.to_thread(use_it)
