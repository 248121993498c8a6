"""A /run fails in three ways; each answer of RunPod's is exactly one of them."""

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.flow.world import configuration, worker_settings
from worker.answers import MAXIMUM_ANSWER_BYTES
from worker.outcomes import Gone, NotSent, Refused, TooLarge, Unknown
from worker.remote import RemoteJob
from worker.runpod import RunPod, open_http


async def ask(answer: Callable[[httpx.Request], httpx.Response], operation: str = "run") -> object:
    told = configuration(database_url="postgresql://nowhere", redis_url="redis://nowhere", storage=Path("unused"))
    async with open_http(worker_settings(told), transport=httpx.MockTransport(answer)) as http:
        runpod = RunPod(http)
        if operation == "run":
            return await runpod.run("ep", {"input": {"prompt": "p"}})
        if operation == "stream":
            return await runpod.stream("ep", "job-1", hold=timedelta(0))
        return await runpod.status("ep", "job-1")


def answering(status: int, body: str = "{}", **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, text=body, headers=headers)


def raising(error: type[httpx.TransportError]) -> Callable[[httpx.Request], httpx.Response]:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("on purpose", request=request)

    return fail


async def test_accepted_with_our_key() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"].startswith("Bearer ")
        assert request.url.path == "/v2/ep/run"
        return httpx.Response(200, json={"id": "j-u1", "status": "IN_QUEUE"})

    outcome = await ask(answer)
    assert isinstance(outcome, RemoteJob)
    assert outcome.id == "j-u1"


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 429])
async def test_nothing_happened(status: int) -> None:
    assert isinstance(await ask(answering(status)), NotSent)


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
async def test_never_left_the_socket(error: type[httpx.TransportError]) -> None:
    assert isinstance(await ask(raising(error)), NotSent)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_refused_for_good(status: int) -> None:
    assert isinstance(await ask(answering(status, "why")), Refused)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_server_error_after_sending_tells_nothing(status: int) -> None:
    assert isinstance(await ask(answering(status)), Unknown)


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError])
async def test_a_broken_exchange_tells_nothing(error: type[httpx.TransportError]) -> None:
    assert isinstance(await ask(raising(error)), Unknown)


@pytest.mark.parametrize("body", ["", "<html>", "{}", '{"id": "x"}'])
async def test_a_200_without_a_job_tells_nothing(body: str) -> None:
    assert isinstance(await ask(answering(200, body)), Unknown)


@pytest.mark.parametrize(
    ("operation", "status", "outcome"),
    [("run", 200, Unknown), ("status", 200, TooLarge), ("stream", 200, Unknown), ("status", 502, Unknown)],
)
async def test_an_endless_answer_is_cut_off(operation: str, status: int, outcome: type) -> None:
    assert isinstance(await ask(answering(status, "x" * (MAXIMUM_ANSWER_BYTES + 1)), operation), outcome)


def coded(coding: str, body: bytes) -> Callable[[httpx.Request], httpx.Response]:
    async def in_one_piece() -> AsyncIterator[bytes]:
        yield body

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, content=in_one_piece(), headers={"content-encoding": coding})

    return answer


async def test_an_answer_that_something_on_the_way_compressed_is_read() -> None:
    outcome = await ask(coded("gzip", gzip.compress(b'{"id": "j-u1", "status": "IN_QUEUE"}')))
    assert isinstance(outcome, RemoteJob)
    assert outcome.id == "j-u1"


BOMB = gzip.compress(bytes(128 << 20), 1)


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", BOMB), ("gzip, gzip", gzip.compress(BOMB)), ("gzip", b"no gzip"), ("br", b"")]
)
async def test_no_answer_takes_more_memory_than_the_largest_may(coding: str, body: bytes) -> None:
    tracemalloc.start()
    outcome = await ask(coded(coding, body))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, Unknown)
    assert peak < 3 * MAXIMUM_ANSWER_BYTES


async def test_a_cookie_is_not_sent_back() -> None:
    """A balancer's would tie all our requests to one machine of RunPod's; many of them make every request larger."""
    told = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers.get("cookie"))
        return httpx.Response(500, headers={"set-cookie": f"machine{len(told)}=a; Path=/"})

    settings = worker_settings(configuration(database_url="x://", redis_url="x://", storage=Path("unused")))
    async with open_http(settings, transport=httpx.MockTransport(answer)) as http:
        for _ in range(2):
            await RunPod(http).status("ep", "job-1")
    assert told == [None, None]


async def test_what_comes_after_a_compressed_answer_is_not_kept() -> None:
    """zlib puts aside whatever follows, as much as there is."""

    async def endless() -> AsyncIterator[bytes]:
        yield gzip.compress(b'{"id": "j-u1", "status": "IN_QUEUE"}')
        for _ in range(2 * MAXIMUM_ANSWER_BYTES >> 20):
            yield bytes(1 << 20)

    headers = {"content-encoding": "gzip"}
    tracemalloc.start()
    outcome = await ask(lambda _: httpx.Response(200, content=endless(), headers=headers))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome, Unknown)
    assert peak < MAXIMUM_ANSWER_BYTES


async def test_retry_after_is_honoured_within_reason() -> None:
    soon = await ask(answering(429, **{"retry-after": "7"}))
    assert isinstance(soon, NotSent)
    assert 7 <= soon.wait.total_seconds() <= 8
    for much in ("99999999", "9" * 5000):
        absurd = await ask(answering(429, **{"retry-after": much}))
        assert isinstance(absurd, NotSent)
        assert 120 <= absurd.wait.total_seconds() <= 121


async def test_status_404_is_gone_and_its_body_status_is_not_a_state() -> None:
    body = '{"status":404,"title":"Not Found","detail":"job not found"}'
    assert isinstance(await ask(answering(404, body), "status"), Gone)


async def test_a_request_larger_than_runpod_takes_is_not_sent() -> None:
    calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(200)

    told = configuration(database_url="postgresql://nowhere", redis_url="redis://nowhere", storage=Path("unused"))
    async with open_http(worker_settings(told), transport=httpx.MockTransport(answer)) as http:
        outcome = await RunPod(http).run("ep", {"input": {"image": "x" * (11 * 1024 * 1024)}})
    assert isinstance(outcome, Refused)
    assert not calls
