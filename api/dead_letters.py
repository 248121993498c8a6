"""Dead letters: generations that failed and were refunded, with what RunPod was told and said last, for staff.

`GET /ops/dead-letters` lists them and `POST /ops/dead-letters/retry` tries them again, by the same filter; `twin
dead-letters` and `twin retry` do so from a terminal.
"""

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from api import replies, retries
from api.auth import Administrator
from api.bodies import Moment, json_only
from api.cursors import Place, read_cursor, write_cursor
from api.exchanges import READ_BYTES, redacted
from api.generations import CURSOR_CHARACTERS, PAGE_DEFAULT, PAGE_LIMIT
from api.sent import AttemptReply, attempts, submissions
from api.state import State, state_of
from shared import sql
from shared.database import Connection
from shared.errors import TwinError
from shared.generations import Type

_SQL = sql.load(__file__)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"

router = APIRouter(tags=["operations"])


class ExchangeReply(TypedDict):
    """RunPod's last answer: `said` is the beginning of it, redacted; `bytes` the size of what is kept."""

    attempt: int
    remote_status: str
    received_at: datetime
    bytes: int
    said: str


class DeadLetter(TypedDict):
    """A failed generation. `submissions`: how often RunPod may have got it, over all rounds."""

    id: UUID
    user_id: str
    type: Type
    endpoint: str | None
    code: str
    reason: str | None
    created_at: datetime
    failed_at: datetime
    quoted: int
    retries: int
    submissions: int
    attempts: list[AttemptReply]
    exchange: ExchangeReply | None


class DeadLetterPage(TypedDict):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[DeadLetter]
    has_more: bool
    next_cursor: str | None


class RetriedReply(TypedDict):
    """What became of one: `code` is null when it is on its way again, else that of the refusal."""

    id: UUID
    retried: bool
    code: str | None
    detail: str | None


class RetriedPage(TypedDict):
    """What became of each; `next_cursor` leads past these, to the ones that are left."""

    data: list[RetriedReply]
    retried: int
    has_more: bool
    next_cursor: str | None


class DeadLetterFilter(BaseModel):
    """Which dead letters; what is left out means all."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(pattern=NAME, description="such as model-failed")] | None = None
    endpoint: Annotated[str, Field(pattern=NAME)] | None = None
    type: Type | None = None
    since: Moment | None = Field(None, description="failed then or later")
    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS)] | None = None

    def filters(self) -> dict[str, Any]:
        """What was asked for, JSON-compatible."""
        return self.model_dump(mode="json", include={"code", "endpoint", "type", "since"}, exclude_none=True)


async def newest(
    connection: Connection, wanted: DeadLetterFilter, *, after: Place | None = None, limit: int
) -> list[DeadLetter]:
    """Up to `limit` dead letters, newest first, that come after a place."""
    rows = await connection.fetch(
        _SQL["dead_letters"],
        after.created_at if after else None,
        after.id if after else None,
        wanted.code,
        wanted.endpoint,
        wanted.type,
        wanted.since,
        limit,
        READ_BYTES,
    )
    made = await attempts(connection, {row["id"]: row["prompt"] for row in rows})
    return [_dead_letter(row, made[row["id"]]) for row in rows]


def _dead_letter(row: asyncpg.Record, made: list[AttemptReply]) -> DeadLetter:
    exchange: ExchangeReply | None = None
    if row["answer"] is not None:
        exchange = {
            "attempt": row["answered_attempt"],
            "remote_status": row["remote_status"],
            "received_at": row["received_at"],
            "bytes": row["bytes"],
            "said": redacted(row["answer"], prompt=row["prompt"]),
        }
    return {
        "id": row["id"],
        "user_id": row["user_id"],
        "type": Type(row["type"]),
        "endpoint": row["endpoint"],
        "code": row["code"],
        "reason": row["reason"],
        "created_at": row["created_at"],
        "failed_at": row["failed_at"],
        "quoted": row["quoted"],
        "retries": row["retries"],
        "submissions": submissions(made),
        "attempts": made,
        "exchange": exchange,
    }


async def _page(state: State, wanted: DeadLetterFilter, *, asked_by: str) -> tuple[list[DeadLetter], str | None]:
    """What the filter finds after its cursor, and the cursor of what is left."""
    scope = ["dead-letters", asked_by, wanted.filters()]
    after = read_cursor(state.cursors, wanted.cursor, scope=scope) if wanted.cursor is not None else None
    async with state.connection() as connection:
        found = await newest(connection, wanted, after=after, limit=wanted.limit + 1)
    shown = found[: wanted.limit]
    if len(found) <= wanted.limit:
        return shown, None
    return shown, write_cursor(state.cursors, Place(shown[-1]["failed_at"], shown[-1]["id"]), scope=scope)


@router.get("/ops/dead-letters", operation_id="listDeadLetters", response_model=DeadLetterPage)
async def list_dead_letters(
    request: Request, person: Administrator, query: Annotated[DeadLetterFilter, Query()]
) -> Response:
    """What failed, newest first, with why, every attempt, and what RunPod said last. For administrators."""
    state = state_of(request)
    shown, cursor = await _page(state, query, asked_by=person.user_id)
    links: dict[str, str] = {}
    if cursor is not None:
        parameters = urlencode({**query.filters(), "limit": query.limit, "cursor": cursor})
        links["Link"] = f'<{state.settings.public_url}/ops/dead-letters?{parameters}>; rel="next"'
    page: DeadLetterPage = {"data": shown, "has_more": cursor is not None, "next_cursor": cursor}
    return replies.json_response(page, headers=links)


@router.post(
    "/ops/dead-letters/retry",
    operation_id="retryDeadLetters",
    dependencies=[Depends(json_only)],
    response_model=RetriedPage,
)
async def retry_dead_letters(request: Request, person: Administrator, body: DeadLetterFilter) -> Response:
    """Try again what the same filter lists, up to `limit` of them: each by itself, for the credits that were agreed."""
    state = state_of(request)
    shown, cursor = await _page(state, body, asked_by=person.user_id)
    done = [await _retry(state, letter["id"], retried_by=person.user_id) for letter in shown]
    page: RetriedPage = {
        "data": done,
        "retried": sum(each["retried"] for each in done),
        "has_more": cursor is not None,
        "next_cursor": cursor,
    }
    return replies.json_response(page)


async def _retry(state: State, generation_id: UUID, *, retried_by: str) -> RetriedReply:
    try:
        async with state.connection() as connection, connection.transaction():
            begun = await retries.begin(connection, generation_id, retried_by=retried_by)
    except TwinError as refusal:
        return {"id": generation_id, "retried": False, "code": refusal.code, "detail": refusal.detail}
    await state.tell([begun.generation])
    return {"id": generation_id, "retried": True, "code": None, "detail": None}
