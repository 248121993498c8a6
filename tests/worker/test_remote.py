"""Reading RunPod's answers: the live samples of runpod.md 1.3, and what is not an answer."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.remote import RemoteState, UnreadableAnswer, read_job


def _job(**fields: Any) -> bytes:
    return orjson.dumps({"id": "abc-u1", "status": "COMPLETED", **fields})


def test_the_failed_sample() -> None:
    sample = {
        "delayTime": 101050, "error": "job timed out after 1 retries", "executionTime": 42078, "id": "x-u1",
        "retries": 1, "status": "FAILED", "workerId": "z3jr9rv2k3tt2y",
    }  # fmt: skip
    job = read_job(orjson.dumps(sample))
    assert (job.state, job.error, job.delay_ms, job.execution_ms) == (
        RemoteState.FAILED, "job timed out after 1 retries", 101050, 42078,
    )  # fmt: skip


def test_running_is_an_alias() -> None:
    assert read_job(_job(status="RUNNING")).state is RemoteState.IN_PROGRESS


def test_progress_is_not_a_result() -> None:
    running = read_job(_job(status="IN_PROGRESS", output="50%"))
    assert running.progress == "50%"
    assert not running.state.terminal
    assert read_job(_job(output="done")).progress is None


def test_progress_that_is_nested_too_deeply_is_none() -> None:
    body = b'{"id":"x-u1","status":"IN_PROGRESS","output":%b1%b}' % (b"[" * 500, b"]" * 500)
    assert read_job(body).progress is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>502</html>", b"[]", b"null", b'{"status":"COMPLETED"}', b'{"id":7,"status":"COMPLETED"}',
        b'{"id":"a/../../other","status":"COMPLETED"}', b'{"id":"x","status":404,"title":"Not Found"}',
        b'{"id":"x","status":"DRAFT"}', b'{"id":"x"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_a_job_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_job(body)


@pytest.mark.parametrize("value", [-1, "soon", None, [], 1e300])
def test_times_that_make_no_sense_are_unknown(value: Any) -> None:
    assert read_job(_job(delayTime=value)).delay_ms is None


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_job(body)
