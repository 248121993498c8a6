"""How much is too much, and when an endpoint takes nothing: 429 and 409."""

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.door import client
from tests.local.runpod.limits import Limits
from tests.local.runpod.platform import Platform
from tests.local.runpod.refusals import Refusal
from tests.local.runpod.rules import DOCUMENTED_LIMITS, Limit, Rules
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "a quiet sea", "seed": 7}}
DAY_SECONDS = 86_400


def admitted(limits: Limits, operation: str, most: int, *, workers: int = 1) -> int:
    """How many calls one after the other are let in, of at most so many."""
    for number in range(most):
        try:
            with limits.admit("text", operation, workers):
                pass
        except Refusal:
            return number
    return most


def admitted_at_once(limits: Limits, operation: str, most: int) -> int:
    """How many calls are let in while none of them ends."""
    with ExitStack() as held:
        for number in range(most):
            try:
                held.enter_context(limits.admit("text", operation, 1))
            except Refusal:
                return number
    return most


@conforms("limits")
@pytest.mark.parametrize(
    ("operation", "in_ten_seconds", "at_once"),
    [
        ("runsync", 2000, 400),
        ("run", 1000, 200),
        ("status", 2000, 400),
        ("stream", 2000, 400),
        ("cancel", 100, 20),
        ("purge-queue", 2, None),
        ("requests", 10, 2),
    ],
)
def test_the_documented_limits_hold(
    clock: ManualClock, operation: str, in_ten_seconds: int, at_once: int | None
) -> None:
    assert admitted(Limits(DOCUMENTED_LIMITS, clock), operation, in_ten_seconds + 1) == in_ten_seconds
    if at_once is not None:
        assert admitted_at_once(Limits(DOCUMENTED_LIMITS, clock), operation, at_once + 1) == at_once


@conforms("limits-unstated")
@pytest.mark.parametrize("operation", ["retry", "health"])
def test_what_has_no_stated_limit_has_none(clock: ManualClock, operation: str) -> None:
    assert admitted(Limits(DOCUMENTED_LIMITS, clock), operation, 5_000) == 5_000


@conforms("limits-workers")
def test_workers_raise_a_limit_above_its_base(clock: ManualClock) -> None:
    rules = {"run": Limit(10, None, per_worker=4)}
    assert [admitted(Limits(rules, clock), "run", 50, workers=workers) for workers in (1, 2, 3, 5)] == [10, 10, 12, 20]


@conforms("429", "limits-scope")
async def test_too_many_calls_in_ten_seconds_are_refused_per_endpoint(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    for _ in range(2):
        assert (await http.post("/text/purge-queue")).status_code == 200
        clock.advance(1)
    assert (await http.post("/text/purge-queue")).status_code == 429
    assert (await http.get("/text/requests")).status_code == 200
    assert (await http.post("/image/purge-queue")).status_code == 200
    clock.advance(8)
    assert (await http.post("/text/purge-queue")).status_code == 200


@conforms("429")
async def test_too_many_calls_at_once_are_refused(clock: ManualClock) -> None:
    runpod = Platform(["text"], clock=clock, rules=Rules(limits={"runsync": Limit(None, 1)}))
    async with client(runpod) as http:
        asking = asyncio.create_task(http.post("/text/runsync", json=ASK))
        job = await runpod.next_job("text")
        assert (await http.post("/text/runsync", json=ASK)).status_code == 429
        runpod.complete(job.id)
        assert (await asking).status_code == 200


@conforms("429-queue")
async def test_a_queue_too_long_for_the_workers_takes_no_more(clock: ManualClock) -> None:
    runpod = Platform(clock=clock, rules=Rules(queue_per_worker=30))
    runpod.add_endpoint("small", max_workers=1)
    runpod.add_endpoint("large", max_workers=2)
    async with client(runpod) as http:
        for endpoint_id, taken in (("small", 51), ("large", 61)):
            codes = [(await http.post(f"/{endpoint_id}/run", json=ASK)).status_code for _ in range(taken + 1)]
            assert codes == [200] * taken + [429]
        runpod.take("small")
        assert (await http.post("/small/run", json=ASK)).status_code == 200


@conforms("409-paused", "health-paused")
async def test_a_paused_endpoint_takes_no_work(runpod: Platform, http: httpx.AsyncClient) -> None:
    before = (await http.get("/text/health")).json()
    runpod.endpoint("text").max_workers = 0
    answer = await http.post("/text/run", json=ASK)
    assert answer.status_code == 409
    assert answer.json() == {
        "code": "ENDPOINT_PAUSED",
        "detail": "Endpoint is paused (max_workers=0). Set max_workers > 0 to accept work.",
    }
    assert (await http.get("/text/health")).json() == before


@conforms("409-idle")
async def test_an_endpoint_without_work_for_a_week_is_paused(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    for days, code in ((6.9, 200), (6.9, 200), (7, 409), (0, 409)):
        clock.advance(days * DAY_SECONDS)
        assert (await http.post("/text/run", json=ASK)).status_code == code
    assert (await http.post("/image/run", json=ASK)).status_code == 409
    runpod.endpoint("text").max_workers = 1
    assert (await http.post("/text/run", json=ASK)).status_code == 200


@conforms("409-persists")
async def test_a_pause_can_outlast_the_adding_of_workers(
    runpod: Platform, http: httpx.AsyncClient, clock: ManualClock
) -> None:
    runpod.weather.order("paused", endpoint="text", lasting_seconds=15)
    for seconds, code in ((0, 409), (14.9, 409), (0.1, 200)):
        clock.advance(seconds)
        assert (await http.post("/text/run", json=ASK)).status_code == code
    assert runpod.weather.forecast() == []
