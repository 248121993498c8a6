"""What can be refused at the doors, and how every refusal is answered: RFC 9457, from one table.

Domain errors (`shared/errors.py`) know no HTTP; `KINDS` gives each code its status, title and a page that explains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import asyncpg
import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.problems import KINDS
from shared.database import UNREACHABLE
from shared.errors import TwinError

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
MAXIMUM_ERRORS = 20
BUSY = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
)
"""Postgres is there, but did not do it this time; the transaction is undone, so asking again is safe."""

_CODE_OF_STATUS = {
    400: "malformed-body",
    401: "not-signed-in",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    415: "unsupported-media-type",
    416: "range-not-satisfiable",
}


class NotSignedIn(TwinError):
    """No session, or one that does not verify."""

    code = "not-signed-in"


class Forbidden(TwinError):
    """Signed in, but not allowed to do this."""

    code = "forbidden"


class InvalidIdempotencyKey(TwinError):
    """An Idempotency-Key that is empty, too long or not visible ASCII."""

    code = "invalid-idempotency-key"


class InProgress(TwinError):
    """The same Idempotency-Key is being worked on elsewhere right now."""

    code = "in-progress"


class GarbledWebhook(TwinError):
    """A webhook whose body is not what RunPod sends."""

    code = "garbled-webhook"


class TooManyStreams(TwinError):
    """One person holds more event streams than the limit."""

    code = "too-many-streams"


class NotReady(TwinError):
    """This process cannot serve: a part is missing or the schema does not fit."""

    code = "not-ready"


class Unavailable(TwinError):
    """A part that we stand on cannot be reached; nothing happened."""

    code = "unavailable"


@dataclass(frozen=True, slots=True)
class Problems:
    """Writes problem replies whose `type` resolves on this server."""

    public_url: str

    def reply(
        self,
        code: str,
        detail: str,
        *,
        request_id: str | None,
        facts: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> Response:
        """An RFC 9457 reply; `facts` become extra members, `headers` go out as they are."""
        kind = KINDS[code]
        body = {
            **(facts or {}),
            "type": f"{self.public_url}/problems/{code}",
            "title": kind.title,
            "status": status or kind.status,
            "detail": detail,
            "code": code,
            "request_id": request_id,
            "retryable": kind.retryable,
        }
        sent = dict(headers or {})
        if kind.status == HTTPStatus.UNAUTHORIZED:
            sent.setdefault("WWW-Authenticate", "Bearer")
        if kind.retryable:
            sent.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
        sent.setdefault("Cache-Control", "no-store")
        content = orjson.dumps(body, option=orjson.OPT_UTC_Z)
        return Response(content, status or kind.status, headers=sent, media_type=MEDIA_TYPE)

    async def on_refusal(self, request: Request, error: Exception) -> Response:
        """Answer a domain error."""
        if not isinstance(error, TwinError) or error.code not in KINDS:
            raise error
        return self.reply(error.code, error.detail, request_id=request_id(request), facts=error.facts)

    async def on_invalid(self, request: Request, error: Exception) -> Response:
        """Answer a request that does not fit the models: one entry for each thing that is wrong, never its value."""
        if not isinstance(error, RequestValidationError):
            raise error
        found = error.errors()
        if any(problem["type"] == "json_invalid" for problem in found):
            return self.reply("malformed-body", "The body is not valid JSON.", request_id=request_id(request))
        if all(problem["loc"][0] == "path" for problem in found):
            return self.reply("not-found", "There is nothing under this address.", request_id=request_id(request))
        entries = [describe(problem) for problem in found[:MAXIMUM_ERRORS]]
        first = entries[0]
        detail = f"{first.get('pointer') or first.get('parameter') or 'The request'}: {first['detail']}"
        return self.reply("validation-failed", detail, request_id=request_id(request), facts={"errors": entries})

    async def on_http(self, request: Request, error: Exception) -> Response:
        """Answer what the framework refused: no such route, wrong method, a body that does not parse."""
        if not isinstance(error, HTTPException):
            raise error
        code = _CODE_OF_STATUS.get(error.status_code, "malformed-body" if error.status_code < 500 else "internal-error")
        detail = KINDS[code].meaning if error.status_code in _CODE_OF_STATUS else str(error.detail)
        return self.reply(code, detail, request_id=request_id(request), headers=error.headers, status=error.status_code)

    async def on_unreachable(self, request: Request, error: Exception) -> Response:
        """Answer when Postgres is away: nothing happened, ask again."""
        log.warning("database.unreachable", error=type(error).__name__)
        detail = "The database cannot be reached just now. Nothing was done; please try again."
        return self.reply("unavailable", detail, request_id=request_id(request))

    async def on_busy(self, request: Request, error: Exception) -> Response:
        """Answer when Postgres gave up on this transaction."""
        log.warning("database.busy", error=type(error).__name__)
        detail = "The database was too busy for this request. Nothing was done; please try again."
        return self.reply("unavailable", detail, request_id=request_id(request))


def request_id(request: Request) -> str | None:
    """The id under which this request is logged; echoed as X-Request-Id."""
    return getattr(request.state, "request_id", None)


def describe(problem: Mapping[str, Any]) -> dict[str, str]:
    """One entry of `errors[]`: where (a JSON pointer into the body, or a parameter's name), a code and a sentence."""
    place, *path = problem["loc"]
    detail = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "union_tag_invalid":  # its message repeats what was sent
        detail = f"Input should be one of {problem['ctx']['expected_tags']}"
    entry = {"code": str(problem["type"]), "detail": detail}
    if place == "body":
        return {"pointer": _pointer(path, problem), **entry}
    return {"parameter": ".".join(str(part) for part in path), **entry}


def _pointer(path: Sequence[str | int], problem: Mapping[str, Any]) -> str:
    if problem["type"].startswith("union_tag"):
        return "/type"
    # The submit body is a union told apart by `type`; pydantic puts the tag into the path, the client never sent it.
    steps = path[1:] if path and path[0] in ("text", "image", "modify", "video") else path
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def install(app: FastAPI, problems: Problems) -> None:
    """Answer every error of this app as a problem."""
    app.add_exception_handler(TwinError, problems.on_refusal)
    app.add_exception_handler(RequestValidationError, problems.on_invalid)
    app.add_exception_handler(HTTPException, problems.on_http)
    for kind in UNREACHABLE:
        app.add_exception_handler(kind, problems.on_unreachable)
    for busy in BUSY:
        app.add_exception_handler(busy, problems.on_busy)
