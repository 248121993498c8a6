"""RunPod's public API: `/v2/{endpoint_id}/{operation}[/{job_id}]`, as a client sees it."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from tests.local.runpod.asgi import (
    Address,
    Receive,
    Scope,
    Send,
    TooLarge,
    address,
    answer,
    header,
    read_body,
    unless_gone,
)
from tests.local.runpod.jobs import Job
from tests.local.runpod.platform import Call, Platform
from tests.local.runpod.refusals import (
    Refusal,
    Silence,
    bad_request,
    body_too_large,
    invalid_key,
    job_not_found,
    no_token,
    problem,
    server_trouble,
    too_many_requests,
)
from tests.local.runpod.weather import Trouble


@dataclass(frozen=True)
class Asked:
    """One call, read."""

    call: Call
    endpoint_id: str
    job_id: str
    query: dict[str, list[str]]
    body: Any


Handler = Callable[[Asked], Awaitable[dict[str, Any]]]

GET: Final = frozenset({"GET"})
POST: Final = frozenset({"POST"})
ON_A_JOB: Final = frozenset({"status", "status-sync", "stream", "cancel", "retry"})
OPERATIONS: Final = ON_A_JOB | {"run", "runsync", "purge-queue", "health", "requests"}
WAITING: Final = frozenset({"runsync", "status-sync", "stream"})


def require_key(scope: Scope, api_key: str) -> None:
    """Let in whoever has the key, with or without Bearer. Raises Refusal (401)."""
    given = (header(scope, b"authorization") or "").removeprefix("Bearer").strip()
    if not given:
        raise no_token()
    if not hmac.compare_digest(given.encode(), api_key.encode()):
        raise invalid_key()


class PublicApi:
    """Answers one request after the other out of the platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._operations: dict[str, tuple[frozenset[str], Handler]] = {
            "run": (POST, self._run),
            "runsync": (POST, self._runsync),
            "status": (GET, self._status),
            "status-sync": (GET | POST, self._status_sync),
            "stream": (GET, self._stream),
            "cancel": (POST, self._cancel),
            "retry": (POST, self._retry),
            "purge-queue": (POST, self._purge),
            "health": (GET, self._health),
            "requests": (GET, self._requests),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises Silence when the weather wants no answer, Gone when the client left."""
        where = address(scope)
        job_id = where.rest[0] if where.rest else None
        call = Call(where.operation, where.endpoint_id, job_id, None, at=self._platform.clock())
        self._platform.calls.append(call)
        try:
            body = await self._answer(where, call, scope, receive)
            call.status, headers = 200, {}
        except Refusal as refusal:
            call.status, body, headers = refusal.status, refusal.body, refusal.headers
        await answer(send, call.status, body, headers)

    async def _answer(self, where: Address, call: Call, scope: Scope, receive: Receive) -> dict[str, Any]:
        # The body is read first, so that a client that is still sending sees the refusal and not a broken pipe.
        rules = self._platform.rules
        limit = rules.runsync_body_bytes if where.operation == "runsync" else rules.run_body_bytes
        try:
            raw: bytes | None = await read_body(receive, limit)
        except TooLarge:
            raw = None
        require_key(scope, self._platform.rules.api_key)
        methods, handler = self._operation(where)
        if scope["method"] not in methods:
            raise problem(405, "Method Not Allowed", f"{where.operation} is {' or '.join(sorted(methods))}")
        endpoint = self._platform.endpoint(where.endpoint_id)
        if raw is None:
            raise body_too_large(limit)
        call.body = _json(raw) if raw and methods == POST else None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        asked = Asked(call, where.endpoint_id, call.job_id or "", query, call.body)
        with self._platform.limits.admit(where.endpoint_id, where.operation, endpoint.live_workers):
            work = self._through_weather(asked, handler)
            return await (unless_gone(receive, work) if where.operation in WAITING else work)

    def _operation(self, where: Address) -> tuple[frozenset[str], Handler]:
        found = self._operations.get(where.operation)
        if found is None or len(where.rest) != (where.operation in ON_A_JOB):
            raise problem(404, "Not Found", "not found")
        return found

    async def _through_weather(self, asked: Asked, handler: Handler) -> dict[str, Any]:
        """Do what was asked, with whatever was ordered to go wrong on the way."""

        def strikes(trouble: Trouble) -> float | None:
            order = self._platform.weather.strikes(trouble, asked.endpoint_id, asked.call.operation)
            return None if order is None else order.seconds

        if latency := strikes(Trouble.LATENCY):
            await asyncio.sleep(latency)
        if (retry_after := strikes(Trouble.RATE_LIMITED)) is not None:
            raise too_many_requests(retry_after)
        failing = self._platform.weather.strikes(Trouble.SERVER_ERROR, asked.endpoint_id, asked.call.operation)
        if failing is not None:
            raise server_trouble(failing.status)
        for trouble in (Trouble.TIMEOUT_BEFORE, Trouble.DROPPED_BEFORE):
            if (seconds := strikes(trouble)) is not None:
                raise Silence(seconds)
        if asked.job_id and strikes(Trouble.FORGOTTEN) is not None:
            raise job_not_found()
        body = await handler(asked)
        for trouble in (Trouble.TIMEOUT_AFTER, Trouble.DROPPED_AFTER):
            if (seconds := strikes(trouble)) is not None:
                raise Silence(seconds)
        return body

    def _job(self, asked: Asked) -> Job:
        return self._platform.find(asked.endpoint_id, asked.job_id)

    async def _run(self, asked: Asked) -> dict[str, Any]:
        job = self._platform.submit(asked.endpoint_id, asked.body)
        asked.call.job_id = job.id
        return {"id": job.id, "status": "IN_QUEUE"}

    async def _runsync(self, asked: Asked) -> dict[str, Any]:
        wait = _milliseconds(asked, "wait", 1_000, 300_000)
        job = self._platform.submit(asked.endpoint_id, asked.body, sync=True)
        asked.call.job_id = job.id
        await self._until_ended(job, wait)
        if not job.ended:
            return {"id": job.id, "status": str(job.state)}
        return job.as_status(self._platform.clock())

    async def _until_ended(self, job: Job, wait_ms: int | None) -> None:
        seconds = (self._platform.rules.runsync_wait_ms if wait_ms is None else wait_ms) / 1000
        await self._platform.wait_for(self._platform.endpoint(job.endpoint_id), lambda: job.ended or None, seconds)

    async def _status(self, asked: Asked) -> dict[str, Any]:
        ttl = _milliseconds(asked, "ttl", 0, 7 * 86_400_000)
        job = self._job(asked)
        if ttl is not None:
            self._platform.keep_for(job, ttl / 1000)
        return job.as_status(self._platform.clock())

    async def _status_sync(self, asked: Asked) -> dict[str, Any]:
        wait = _milliseconds(asked, "wait", 1_000, 300_000)
        job = self._job(asked)
        await self._until_ended(job, wait)
        return job.as_status(self._platform.clock())

    async def _stream(self, asked: Asked) -> dict[str, Any]:
        wait = _milliseconds(asked, "wait", 0, 300_000)
        job = self._job(asked)
        seconds = self._platform.rules.stream_hold_seconds if wait is None else wait / 1000
        endpoint = self._platform.endpoint(asked.endpoint_id)
        await self._platform.wait_for(endpoint, lambda: bool(job.chunks) or job.ended or None, seconds)
        chunks, job.chunks = job.chunks, []
        return {"status": str(job.state), "stream": [{"output": chunk} for chunk in chunks]}

    async def _cancel(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        self._platform.cancel(job)
        return {"id": job.id, "status": str(job.state)}

    async def _retry(self, asked: Asked) -> dict[str, Any]:
        job = self._job(asked)
        self._platform.retry(job)
        return {"id": job.id, "status": "IN_QUEUE"}

    async def _purge(self, asked: Asked) -> dict[str, Any]:
        return {"removed": self._platform.purge(asked.endpoint_id), "status": "completed"}

    async def _health(self, asked: Asked) -> dict[str, Any]:
        return self._platform.health(asked.endpoint_id)

    async def _requests(self, asked: Asked) -> dict[str, Any]:
        now = self._platform.clock()
        listed = [job.as_status(now) for job in self._platform.jobs(asked.endpoint_id)]
        for body in listed:
            body.pop("output", None)  # a list of every result would weigh hundreds of megabytes
        return {"requests": listed}


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_request("body: invalid JSON") from None


def _milliseconds(asked: Asked, name: str, least: int, most: int) -> int | None:
    given = asked.query.get(name)
    if given is None:
        return None
    if not given[0].isascii() or not given[0].isdigit() or not least <= int(given[0]) <= most:
        raise bad_request(f"{name}: must be {least} to {most} ms")
    return int(given[0])
