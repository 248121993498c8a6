"""Webhooks as runpod.md §2 has them, into an app in the same process."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import Rules
from tests.local.runpod.webhooks import Attempt
from tests.local_runpod.conformance import conforms

URL = "http://us.test/hook/token"
SENT_WITH_A_BODY = ("content-type", "content-length")


class Receiver:
    """Our side of the webhook: answers with the statuses in turn, then 200 for ever."""

    def __init__(self, statuses: Sequence[int] = ()) -> None:
        self.statuses = list(statuses)
        self.received: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.app = Starlette(routes=[Route("/hook/{token}", self.hear, methods=["POST"])])

    async def hear(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/json"
        self.received.append(await request.json())
        self.headers.append(dict(request.headers))
        return Response(status_code=self.statuses.pop(0) if self.statuses else 200)

    def heard(self) -> list[tuple[str, str]]:
        return [(body["id"], body["status"]) for body in self.received]


@pytest.fixture
def receiver(runpod: Platform) -> Receiver:
    receiver = Receiver()
    runpod.deliver_to(receiver.app)
    return receiver


def ask(runpod: Platform, endpoint_id: str = "text") -> str:
    return runpod.submit(endpoint_id, {"input": {"prompt": "hi"}, "webhook": URL}).id


def numbers(attempts: list[Attempt]) -> list[tuple[int, int | None]]:
    return [(attempt.number, attempt.status) for attempt in attempts]


@conforms("webhook-body")
async def test_the_body_is_the_status_with_input_and_webhook(
    runpod: Platform, receiver: Receiver, clock: ManualClock
) -> None:
    job_id = ask(runpod)
    clock.advance(1)
    runpod.work_off("text", lambda _: "done")
    assert numbers(await runpod.deliver_webhooks()) == [(1, 200)]
    assert receiver.received == [
        {
            "id": job_id,
            "status": "COMPLETED",
            "delayTime": 1000,
            "executionTime": 0,
            "output": "done",
            "workerId": "scripted-worker",
            "input": {"prompt": "hi"},
            "webhook": URL,
        }
    ]
    assert await runpod.deliver_webhooks() == []


@conforms("webhook-ended", "webhook-failed", "timed-out")
async def test_failed_and_timed_out_are_told_and_cancelled_is_not(runpod: Platform, receiver: Receiver) -> None:
    failed, timed_out, cancelled = (ask(runpod) for _ in range(3))
    assert runpod.take("text") is not None
    runpod.fail(failed, "no luck")
    runpod.time_out(timed_out)
    runpod.cancel(runpod.job(cancelled))
    await runpod.deliver_webhooks()
    assert receiver.heard() == [(failed, "FAILED"), (timed_out, "TIMED_OUT")]
    assert receiver.received[0]["error"] == "no luck"


@conforms("webhook-200", "webhook-tries")
async def test_a_receiver_that_does_not_say_200_is_asked_three_times(
    runpod: Platform, receiver: Receiver, clock: ManualClock
) -> None:
    receiver.statuses = [500, 204, 302, 200]
    ask(runpod)
    runpod.work_off("text", lambda _: "done")
    assert numbers(await runpod.deliver_webhooks()) == [(1, 500)]
    clock.advance(9.9)
    assert await runpod.deliver_webhooks() == []
    clock.advance(0.1)
    assert numbers(await runpod.deliver_webhooks()) == [(2, 204)]
    clock.advance(10)
    assert numbers(await runpod.deliver_webhooks()) == [(3, 302)]
    clock.advance(1_000)
    assert await runpod.deliver_webhooks() == []
    assert len({body["id"] for body in receiver.received}) == 1
    assert len(receiver.received) == 3


async def test_a_crash_of_the_receiver_counts_as_no_success(
    runpod: Platform, receiver: Receiver, clock: ManualClock
) -> None:
    runpod.submit("text", {"input": {"a": 1}, "webhook": "http://us.test/nowhere"})
    runpod.work_off("text", lambda _: "done")
    assert numbers(await runpod.deliver_webhooks()) == [(1, 404)]
    clock.advance(10)
    assert numbers(await runpod.deliver_webhooks()) == [(2, 404)]


@conforms("webhook-slow")
async def test_a_receiver_that_sleeps_is_called_again_when_its_time_is_over(clock: ManualClock) -> None:
    runpod = Platform(["text"], clock=clock, rules=Rules(webhook_timeout_seconds=0.05))
    asleep = asyncio.Event()

    async def never_answers(scope: Any, receive: Any, send: Any) -> None:
        clock.advance(10)
        await asleep.wait()

    runpod.deliver_to(never_answers)
    ask(runpod)
    runpod.work_off("text", lambda _: "done")
    # Each try uses up its ten seconds, so the next one is due at once; after three it is over.
    assert numbers(await runpod.deliver_webhooks()) == [(1, None), (2, None), (3, None)]
    assert runpod.webhooks.pending == 0


@conforms("webhook-unsigned")
async def test_the_url_is_all_that_tells_the_receiver_who_calls(runpod: Platform, receiver: Receiver) -> None:
    ask(runpod)
    runpod.work_off("text", lambda _: "done")
    await runpod.deliver_webhooks()
    (headers,) = receiver.headers
    assert headers.keys() <= {"host", "accept", "accept-encoding", "connection", "user-agent", *SENT_WITH_A_BODY}


async def test_webhooks_can_be_lost(runpod: Platform, receiver: Receiver, clock: ManualClock) -> None:
    runpod.weather.order("webhook_lost", endpoint="text", count=1)
    ask(runpod)
    second = ask(runpod)
    runpod.work_off("text", lambda _: "done")
    await runpod.deliver_webhooks()
    clock.advance(60)
    await runpod.deliver_webhooks()
    assert receiver.heard() == [(second, "COMPLETED")]


@conforms("webhook-unordered")
async def test_webhooks_can_come_twice(runpod: Platform, receiver: Receiver) -> None:
    runpod.weather.order("webhook_doubled", count=1)
    job_id = ask(runpod)
    runpod.work_off("text", lambda _: "done")
    await runpod.deliver_webhooks()
    assert receiver.heard() == [(job_id, "COMPLETED")] * 2


async def test_webhooks_can_be_late(runpod: Platform, receiver: Receiver, clock: ManualClock) -> None:
    runpod.weather.order("webhook_delayed", seconds=5, count=1)
    job_id = ask(runpod)
    runpod.work_off("text", lambda _: "done")
    assert await runpod.deliver_webhooks() == []
    clock.advance(5)
    await runpod.deliver_webhooks()
    assert receiver.heard() == [(job_id, "COMPLETED")]


@conforms("webhook-unordered")
async def test_webhooks_can_overtake_each_other(runpod: Platform, receiver: Receiver, clock: ManualClock) -> None:
    runpod.weather.order("webhook_reordered", count=1)
    first, second = ask(runpod), ask(runpod)
    runpod.work_off("text", lambda _: "done")
    await runpod.deliver_webhooks()
    assert receiver.heard() == [(second, "COMPLETED"), (first, "COMPLETED")]

    runpod.weather.order("webhook_reordered", seconds=3, count=1)
    third = ask(runpod)
    runpod.work_off("text", lambda _: "done")
    await runpod.deliver_webhooks()
    assert len(receiver.received) == 2
    clock.advance(3)
    await runpod.deliver_webhooks()
    assert receiver.heard()[2:] == [(third, "COMPLETED")]


@pytest.mark.parametrize("nobody", ["http://127.0.0.1:99999/x", f"http://{'a' * 64}.test/x", "http://[bad/x"])
async def test_an_address_where_nobody_can_be_silences_no_other(nobody: str) -> None:
    """Over the network, which has its own ways to refuse an address."""
    runpod = Platform(["text"])
    runpod.submit("text", {"input": {"n": 1}, "webhook": nobody})
    runpod.work_off("text", lambda _: "made")
    made = await runpod.webhooks.deliver_due()
    await runpod.webhooks.aclose()
    assert [(attempt.url, attempt.status) for attempt in made] == [(nobody, None)]


async def test_while_running_webhooks_go_out_by_themselves(receiver: Receiver) -> None:
    runpod = Platform(["text"])
    runpod.deliver_to(receiver.app)
    async with runpod.running():
        job_ids = {ask(runpod) for _ in range(20)}
        runpod.work_off("text", lambda _: "done")
        await runpod.wait_for(runpod.endpoint("text"), lambda: len(receiver.received) == 20 or None, 10)
    assert {body["id"] for body in receiver.received} == job_ids
    assert runpod.webhooks.pending == 0
