"""What RunPod refuses, word for word: keys, malformed calls, bodies too large, limits, paused endpoints."""

import asyncio

import httpx
import pytest

from tests.local.runpod.door import BASE_URL, transport
from tests.local.runpod.platform import Platform
from tests.local_runpod.conformance import conforms

ASK = {"input": {"prompt": "a quiet sea", "seed": 7}}


@pytest.mark.parametrize(
    ("authorization", "code", "detail"),
    [
        (None, 401, "no token provided"),
        ("Bearer ", 401, "no token provided"),
        ("Bearer wrong", 401, "invalid api key"),
        ("wrong", 401, "invalid api key"),
        ("local-runpod-key", 200, None),
        ("Bearer local-runpod-key", 200, None),
    ],
)
@conforms("auth-bearer", "auth-bare", "401", "error-envelope")
async def test_the_key_comes_with_or_without_bearer(
    runpod: Platform, authorization: str | None, code: int, detail: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with httpx.AsyncClient(transport=transport(runpod), base_url=BASE_URL, headers=headers) as http:
        answer = await http.get("/text/health")
    assert answer.status_code == code
    if detail:
        assert answer.json() == {"status": 401, "title": "Unauthorized", "detail": detail}


@pytest.mark.parametrize(
    ("method", "path", "content", "code", "detail"),
    [
        ("POST", "/nowhere/run", b'{"input":{"a":1}}', 404, "endpoint not found"),
        ("GET", "/nowhere/health", b"", 404, "endpoint not found"),
        ("GET", "/text/status/never-seen", b"", 404, "job not found"),
        ("POST", "/text/cancel/never-seen", b"", 404, "job not found"),
        ("POST", "/text/retry/never-seen", b"", 404, "job not found"),
        ("GET", "/text/stream/never-seen", b"", 404, "job not found"),
        ("POST", "/text/run", b"{", 400, "bad request: body: invalid JSON"),
        ("POST", "/text/run", b"\xff\xfe", 400, "bad request: body: invalid JSON"),
        ("POST", "/text/run", b"", 400, "bad request: body: must be a JSON object"),
        ("POST", "/text/run", b"[]", 400, "bad request: body: must be a JSON object"),
        ("POST", "/text/run", b"{}", 400, "bad request: input: must be a JSON object"),
        ("POST", "/text/run", b'{"input":"hi"}', 400, "bad request: input: must be a JSON object"),
        ("POST", "/text/run", b'{"input":{"a":1},"webhook":7}', 400, "bad request: webhook: must be an http(s) URL"),
        ("POST", "/text/run", b'{"input":{"a":1},"policy":[]}', 400, "bad request: policy: must be a JSON object"),
        (
            "POST",
            "/text/run",
            b'{"input":{"a":1},"policy":{"ttl":9999}}',
            400,
            "bad request: policy.ttl: must be 10000 to 604800000 ms",
        ),
        (
            "POST",
            "/text/run",
            b'{"input":{"a":1},"policy":{"executionTimeout":4999}}',
            400,
            "bad request: policy.executionTimeout: must be 5000 to 604800000 ms",
        ),
        (
            "POST",
            "/text/run",
            b'{"input":{"a":1},"policy":{"executionTimeout":604800001}}',
            400,
            "bad request: policy.executionTimeout: must be 5000 to 604800000 ms",
        ),
        (
            "POST",
            "/text/run",
            b'{"input":{"a":1},"policy":{"lowPriority":1}}',
            400,
            "bad request: policy.lowPriority: must be true or false",
        ),
        (
            "POST",
            "/text/runsync?wait=300001",
            b'{"input":{"a":1}}',
            400,
            "bad request: wait: must be 1000 to 300000 ms",
        ),
        ("POST", "/text/runsync?wait=999", b'{"input":{"a":1}}', 400, "bad request: wait: must be 1000 to 300000 ms"),
        ("GET", "/text/run", b"", 405, "run is POST"),
        ("POST", "/text/status/x", b"", 405, "status is GET"),
        ("GET", "/text/unheard-of", b"", 404, "not found"),
        ("GET", "/text/status", b"", 404, "not found"),
        ("GET", "/text/status/a/b", b"", 404, "not found"),
    ],
)
@conforms(
    "400-malformed",
    "404-endpoint",
    "404-job",
    "gone",
    "error-envelope",
    "input-object",
    "webhook-url",
    "execution-timeout-bounds",
    "ttl-bounds",
    "low-priority",
    "runsync-wait",
)
async def test_a_wrong_call_is_refused_and_queues_nothing(
    runpod: Platform, http: httpx.AsyncClient, method: str, path: str, content: bytes, code: int, detail: str
) -> None:
    answer = await http.request(method, path, content=content)
    assert answer.status_code == code
    assert answer.json()["status"] == code
    assert answer.json()["detail"] == detail
    assert runpod.jobs("text") == []


@pytest.mark.parametrize(("operation", "mib"), [("run", 10), ("runsync", 20)])
@conforms("run-body", "runsync-body", "400-body")
async def test_a_body_over_the_limit_is_refused(
    runpod: Platform, http: httpx.AsyncClient, operation: str, mib: int
) -> None:
    head = b'{"input":{"image":"'
    tail = b'"}}'
    fits = head + b"a" * (mib * 1024 * 1024 - len(head) - len(tail)) + tail
    refused = await http.post(f"/text/{operation}", content=fits + b" ")
    assert refused.status_code == 400
    assert refused.json()["detail"] == f"bad request: body: exceeded max body size of {mib}MiB"
    asking = asyncio.create_task(http.post(f"/text/{operation}", content=fits))
    job = await runpod.next_job("text")
    runpod.complete(job.id)
    assert (await asking).status_code == 200
