"""RunPod's HTTP API, as far as money depends on it: every answer is one of a few outcomes (runpod.md 1.5 and 5).

A /run fails in three ways: nothing happened there (`NotSent`), it said no for good (`Refused`), nobody can tell
(`Unknown`). Which one decides whether a generation is sent again, refunded, or waited for.
"""

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import httpx
import orjson

from shared import lenient, metrics
from worker import cookies
from worker.answers import AnswerTooLarge, MakeRoom, anyway, only_small, read_body
from worker.chunks import Drained, read_drained
from worker.outcomes import Drain, Gone, NotSent, Reading, Refused, Sign, Submission, TooLarge, Unknown
from worker.remote import RemoteJob, UnreadableAnswer, read_job
from worker.settings import WorkerSettings
from worker.shares import Shares
from worker.transport import open_pools

# Less than the lease of 30 s, so that a slow call does not outlive its claim.
CALL_TIMEOUT_SECONDS = 20
HEALTH_TIMEOUT_SECONDS = 5
"""One that does not answer holds up those who are asked with it."""
TIMEOUT = httpx.Timeout(connect=3, read=12, write=8, pool=3)
# Shorter than servers keep idle connections: a request on a connection that just closed cannot be told from a lost one.
# Polls may use 200 at once, and streams hold theirs.
CONNECTION_LIMITS = httpx.Limits(max_connections=300, max_keepalive_connections=64, keepalive_expiry=4)
POOLS = 20
MAXIMUM_REQUEST_BYTES = 10 * 1024 * 1024
_RETRY_SOON = timedelta(seconds=2)
_RETRY_LATER = timedelta(seconds=30)
_RETRY_WHEN_MENDED = timedelta(minutes=2)
_LONGEST_RETRY_AFTER_SECONDS = 120
LONGEST_WAIT = timedelta(seconds=_LONGEST_RETRY_AFTER_SECONDS + 1)
"""No outcome asks for a longer wait than this."""
_CAPABILITY = re.compile(r"/webhooks/[^\s\"']*")  # an error may repeat our request, and with it the secret address

_Failure = NotSent | Refused | Unknown | Gone | TooLarge

Read = TypeVar("Read", RemoteJob, Drained)


class RunPod:
    """The client of one process. Whoever calls has taken the tokens for it (worker/allowances.py)."""

    def __init__(self, http: httpx.AsyncClient, *, shares: Shares | None = None) -> None:
        """`http` has the base URL and the key; `shares` bound what goes on at once."""
        self._http = http
        self._shares = shares or Shares()

    async def run(self, endpoint_id: str, payload: Mapping[str, Any]) -> Submission:
        """POST /run."""
        content = orjson.dumps(payload)
        if len(content) > MAXIMUM_REQUEST_BYTES:
            return Refused(f"The request is {len(content)} bytes; RunPod takes {MAXIMUM_REQUEST_BYTES}.")
        outcome = await self._ask("run", "POST", endpoint_id, f"/{endpoint_id}/run", content, read_job, only_small)
        if isinstance(outcome, TooLarge):
            return Unknown("an answer that is too large")
        return NotSent("not-found", _RETRY_LATER, Sign.FAILING) if isinstance(outcome, Gone) else outcome

    async def status(self, endpoint_id: str, remote_id: str, *, make_room: MakeRoom = anyway) -> Reading:
        """GET /status/{id}. It may bring a whole result: `make_room` is waited for before much of it is read."""
        path = f"/{endpoint_id}/status/{remote_id}"
        return _reading(await self._ask("status", "GET", endpoint_id, path, None, read_job, make_room), remote_id)

    async def stream(self, endpoint_id: str, remote_id: str, *, hold: timedelta, make_room: MakeRoom = anyway) -> Drain:
        """GET /stream/{id}: what the job has given since the last look; RunPod waits up to `hold` for something.

        What this brings cannot be read again: write it before anything else is read.
        """
        path = f"/{endpoint_id}/stream/{remote_id}?wait={int(hold.total_seconds() * 1000)}"
        outcome = await self._ask("stream", "GET", endpoint_id, path, None, read_drained, make_room)
        if isinstance(outcome, TooLarge):
            return Unknown("an answer that is too large")
        # it gave nothing away when it says no
        return NotSent(outcome.reason, _RETRY_SOON) if isinstance(outcome, Refused) else outcome

    async def cancel(self, endpoint_id: str, remote_id: str) -> Reading:
        """POST /cancel/{id}. CANCELLED means that RunPod was asked; a handler may run on (runpod.md 5)."""
        path = f"/{endpoint_id}/cancel/{remote_id}"
        outcome = await self._ask("cancel", "POST", endpoint_id, path, b"", read_job, only_small)
        if isinstance(outcome, TooLarge):
            return Unknown("an answer that is too large")  # a result: /status has it, and reads it where there is room
        return _reading(outcome, remote_id)

    async def health(self, endpoint_id: str) -> Mapping[str, Any] | None:
        """GET /health, as it came; None when RunPod does not say so soon that it is of use."""
        try:
            async with (
                asyncio.timeout(HEALTH_TIMEOUT_SECONDS),
                self._http.stream("GET", f"/{endpoint_id}/health") as response,
            ):
                body = await read_body(response, only_small)
            said = lenient.loads(body) if response.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, TimeoutError, AnswerTooLarge, ValueError):
            said = None
        outcome = "ok" if isinstance(said, dict) else "unknown"
        metrics.RUNPOD_REQUESTS.labels(endpoint_id, "health", outcome).inc()
        return said if isinstance(said, dict) else None

    async def _ask(
        self,
        operation: str,
        method: str,
        endpoint_id: str,
        path: str,
        content: bytes | None,
        read: Callable[[bytes], Read],
        make_room: MakeRoom,
    ) -> Read | _Failure:
        outcome: Read | _Failure
        async with self._shares.one(endpoint_id, operation) as admitted:
            if admitted:
                outcome = await self._exchange(method, path, content, read, make_room)
            else:
                outcome = NotSent("own-share-full", _RETRY_SOON)
        label = "ok" if isinstance(outcome, RemoteJob | Drained) else type(outcome).__name__.lower()
        metrics.RUNPOD_REQUESTS.labels(endpoint_id, operation, label).inc()
        return outcome

    async def _exchange(
        self, method: str, path: str, content: bytes | None, read: Callable[[bytes], Read], make_room: MakeRoom
    ) -> Read | _Failure:
        headers = {"content-type": "application/json"} if content else None
        try:
            async with (
                asyncio.timeout(CALL_TIMEOUT_SECONDS),
                self._http.stream(method, path, content=content, headers=headers) as response,
            ):
                body = await read_body(response, make_room)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            # our own pool being full says nothing of the endpoint
            sign = Sign.NONE if isinstance(error, httpx.PoolTimeout) else Sign.FAILING
            return NotSent(type(error).__name__, _RETRY_SOON * (1 + random.random()), sign)  # noqa: S311 - jitter
        except AnswerTooLarge as error:
            return TooLarge() if response.status_code == httpx.codes.OK else Unknown(str(error))
        except (httpx.HTTPError, TimeoutError) as error:
            return Unknown(type(error).__name__, str(error)[:500])
        if response.status_code == httpx.codes.OK:
            try:
                return read(body)
            except UnreadableAnswer as error:
                return Unknown(f"RunPod answered 200, but {error}.")
        return _failure(response, body)


def _reading(outcome: RemoteJob | _Failure, remote_id: str) -> Reading:
    if isinstance(outcome, RemoteJob) and outcome.id != remote_id:
        return Unknown("RunPod answered about another job.")
    return Unknown(outcome.reason, outcome.said) if isinstance(outcome, Refused) else outcome


def _failure(response: httpx.Response, body: bytes) -> NotSent | Refused | Unknown | Gone:
    """Read an answer that is not 200. The HTTP code decides: `status` in the body is a number there (runpod.md 1.1)."""
    code = response.status_code
    if code == httpx.codes.TOO_MANY_REQUESTS:
        return NotSent("rate-limited", _retry_after(response), Sign.LIMITED)
    if code == httpx.codes.CONFLICT:
        return NotSent("endpoint-paused", _RETRY_LATER, Sign.SHUT)
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.PAYMENT_REQUIRED, httpx.codes.FORBIDDEN):
        return NotSent(f"http-{code}", _RETRY_WHEN_MENDED, Sign.SHUT)
    if code == httpx.codes.NOT_FOUND:
        # Only RunPod's own word about the job counts: a foreign key or a deleted endpoint is a 404 too.
        if b"job not found" in body.lower():
            return Gone()
        return NotSent("endpoint-not-found", _RETRY_WHEN_MENDED, Sign.SHUT)
    # a 408 is the server's patience with a request that it may have had in the end
    clear = httpx.codes.is_client_error(code) and code != httpx.codes.REQUEST_TIMEOUT
    reason, said = f"HTTP {code}", _CAPABILITY.sub("/webhooks/…", body[:300].decode(errors="replace"))
    return Refused(reason, said) if clear else Unknown(reason, said)


def _retry_after(response: httpx.Response) -> timedelta:
    text = response.headers.get("retry-after", "")
    seconds = int(text[:9]) if text.isascii() and text.isdigit() else 1  # Python reads no number of thousands of digits
    return timedelta(seconds=min(seconds, _LONGEST_RETRY_AFTER_SECONDS) + random.random())  # noqa: S311 - jitter


def open_http(settings: WorkerSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """The process's pooled connections to RunPod, with its key. The caller closes them."""
    return httpx.AsyncClient(
        base_url=settings.runpod_base_url,
        headers={
            "authorization": f"Bearer {settings.runpod_api_key.get_secret_value()}",
            "accept-encoding": "identity",
        },
        timeout=TIMEOUT,
        transport=transport or open_pools(POOLS, CONNECTION_LIMITS),
        cookies=cookies.none_kept(),
        follow_redirects=False,
        trust_env=False,
    )
