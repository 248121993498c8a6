"""`GET /v1/admin/operations`: the audit log. Who did what to whose credits, plans or prices, when and why."""

from datetime import datetime
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import UserId
from api.auth import Administrator
from api.cursors import Place, read_cursor, write_cursor
from api.generations import CURSOR_CHARACTERS, PAGE_DEFAULT, PAGE_LIMIT
from api.state import state_of
from shared import sql
from shared.database import Connection

_SQL = sql.load(__file__)

ActKind = Literal["open", "grant", "adjust", "reverse", "set-terms", "set-plan", "set-time-zone", "price"]

router = APIRouter()


class OperationReply(TypedDict):
    """An act. `scope` is the person whose credits it was about, or `plans` or `prices`.

    `outcome` is what was answered: the `amount` and `balance`, or what was (`before`) and what is (`after`), so that it
    can be undone. `actor` is null for acts from before there was a log.
    """

    id: UUID
    at: datetime
    actor: str | None
    kind: str
    scope: str
    key: str
    reason: str | None
    outcome: dict[str, Any]


class OperationPage(TypedDict):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[OperationReply]
    has_more: bool
    next_cursor: str | None


class OperationQuery(BaseModel):
    """Which acts, and how many at once."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS)] | None = None
    scope: UserId | None = Field(None, description="a user_id, or plans or prices")
    actor: UserId | None = Field(None, description="who did it")
    kind: ActKind | None = None

    def filters(self) -> dict[str, str]:
        """What was asked for."""
        return self.model_dump(include={"scope", "actor", "kind"}, exclude_none=True)


async def newest(
    connection: Connection,
    *,
    scope: str | None = None,
    actor: str | None = None,
    kind: ActKind | None = None,
    after: Place | None = None,
    limit: int,
) -> list[OperationReply]:
    """Up to `limit` acts, newest first, that come after a place."""
    place = (after.created_at, after.id) if after is not None else (None, None)
    if scope is None:
        rows = await connection.fetch(_SQL["acts"], *place, actor, kind, limit)
    else:
        rows = await connection.fetch(_SQL["acts_of_scope"], *place, actor, kind, limit, scope)
    return [cast("OperationReply", dict(row)) for row in rows]


@router.get("/v1/admin/operations", operation_id="listOperations", response_model=OperationPage)
async def list_operations(
    request: Request, person: Administrator, query: Annotated[OperationQuery, Query()]
) -> Response:
    """The audit log, newest first."""
    state = state_of(request)
    bound = ["operations", person.user_id, query.filters()]
    after = read_cursor(state.cursors, query.cursor, scope=bound) if query.cursor is not None else None
    async with state.connection() as connection:
        found = await newest(
            connection, scope=query.scope, actor=query.actor, kind=query.kind, after=after, limit=query.limit + 1
        )
    shown, has_more = found[: query.limit], len(found) > query.limit
    cursor = None
    links: dict[str, str] = {}
    if has_more:
        cursor = write_cursor(state.cursors, Place(shown[-1]["at"], shown[-1]["id"]), scope=bound)
        parameters = urlencode({**query.filters(), "limit": query.limit, "cursor": cursor})
        links["Link"] = f'<{state.settings.public_url}/v1/admin/operations?{parameters}>; rel="next"'
    page: OperationPage = {"data": shown, "has_more": has_more, "next_cursor": cursor}
    return replies.json_response(page, headers=links)
