"""What happens to every request before a route sees it: an id, a bound on its body, headers that keep browsers safe."""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from api.errors import Problems
from api.metrics import REQUEST_SECONDS

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BODY_LIMIT_BYTES = 1024 * 1024
WEBHOOK_BODY_LIMIT_BYTES = 25 * 1024 * 1024
BODY_LIMITS: Mapping[str, int] = {"/webhooks/": WEBHOOK_BODY_LIMIT_BYTES}
"""By the beginning of the path; everything else gets `BODY_LIMIT_BYTES`."""

# A refused body is read and thrown away up to here, or the client would see a reset instead of the 413.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 5

BODY_SECONDS = 30
"""From its headers to the last byte of a request's body; who dribbles is let go of."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Unless the route says otherwise; the page and the media have their own."""


class RequestFrame:
    """Outermost but for CORS: gives the request its id, logs and times it, and answers what nobody else caught."""

    def __init__(self, app: ASGIApp, *, problems: Problems, secure: bool) -> None:
        """Frame `app`; `secure` tells browsers to come back over https only."""
        self._app = app
        self._problems = problems
        self._secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid7().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(MutableHeaders(scope=message), request_id)
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_framed)
            except Exception:
                log.exception("http.failed", method=scope["method"], route=_route(scope))
                if status:
                    raise
                reply = self._problems.reply(
                    "internal-error", "Something went wrong here; it has been recorded.", request_id=request_id
                )
                await reply(scope, receive, send_framed)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _add_headers(self, headers: MutableHeaders, request_id: str) -> None:
        headers["X-Request-Id"] = request_id
        for name, value in _SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if self._secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The route, never the path: paths carry capabilities.
        route = _route(scope)
        if route not in _QUIET:
            REQUEST_SECONDS.labels(route, scope["method"], str(status)).observe(seconds)
            log.info(
                "http.request", method=scope["method"], route=route, status=status, milliseconds=round(seconds * 1e3, 1)
            )


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


class BodyLimit:
    """Refuses bodies that are too large, by their announced length or by counting, and bodies that take too long."""

    def __init__(self, app: ASGIApp, *, problems: Problems, seconds: float = BODY_SECONDS) -> None:
        """Guard `app`; a body has `seconds` to arrive."""
        self._app = app
        self._problems = problems
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((size for start, size in BODY_LIMITS.items() if scope["path"].startswith(start)), BODY_LIMIT_BYTES)
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdigit() or int(announced) > limit:
            await _drain(receive)
            reply = self._problems.reply(
                "body-too-large",
                f"The body may have at most {limit} bytes.",
                request_id=scope["state"]["request_id"],
                facts={"limit_bytes": limit},
            )
            await reply(scope, receive, send)
            return
        received = 0
        deadline: float | None = asyncio.get_running_loop().time() + self._seconds

        async def receive_counted() -> Message:
            nonlocal received, deadline
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, headers={"Connection": "close"}) from error
            if not message.get("more_body", False):
                deadline = None  # what is received after the body is the client's leaving
            received += len(message.get("body", b""))
            if received > limit:
                if message.get("more_body", False):
                    await _drain(receive)
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return message

        await self._app(scope, receive_counted, send)


async def _drain(receive: Receive) -> None:
    drained = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while drained < DRAIN_BYTES:
                message = await receive()
                drained += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
