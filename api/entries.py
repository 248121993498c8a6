"""`GET /v1/credits/entries` and `/v1/credits/balance`: every movement of a person's credits, and what it came to."""

from datetime import UTC, datetime
from typing import Annotated, Literal, get_args
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from api import replies
from api.auth import SignedIn
from api.bodies import Moment
from api.credits import refresh
from api.cursors import read_number, write_number
from api.lines import EntryKind, Line, Wanted, newest
from api.state import state_of
from shared import ledger
from shared.errors import Invalid

PAGE_LIMIT = 100
PAGE_DEFAULT = 20
CURSOR_CHARACTERS = 300

router = APIRouter(tags=["credits"])


class EntryPage(TypedDict):
    """A page of movements; `next_cursor` is null on the last one.

    A page may be short, even empty, and not be the last: filters look through so many entries at once.
    """

    data: list[Line]
    has_more: bool
    next_cursor: str | None


class EntryQuery(BaseModel):
    """Which movements, and how many at once. Several kinds: repeat the parameter."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS)] | None = None
    kind: Annotated[list[EntryKind], Field(max_length=len(get_args(EntryKind)))] = []
    since: Annotated[Moment | None, Field(alias="from", description="from this moment on")] = None
    until: Annotated[Moment | None, Field(alias="to", description="to before this moment")] = None
    generation_id: UUID | None = None

    def wanted(self) -> Wanted:
        """The filters in an order of their own, so that the same ones always make the same cursor."""
        return Wanted(tuple(sorted(set(self.kind))), self.since, self.until, self.generation_id)


class BalanceAt(TypedDict):
    """What the books came to at a moment, after entry `seq` (0: before the first).

    `basis`: it is the books. What the clock did by itself, such as credits that expired, is in them from the moment at
    which it was written down, which is the next look or order, or within minutes. `balance` is unspent credits
    (`posted`) less debt (`overdraft_used`); `held` are promised to running work.
    """

    at: datetime
    basis: Literal["books"]
    seq: int
    balance: int
    posted: int
    held: int
    overdraft_used: int


@router.get("/v1/credits/entries", operation_id="listCreditEntries", response_model=EntryPage)
async def list_entries(request: Request, person: SignedIn, query: Annotated[EntryQuery, Query()]) -> Response:
    """Every movement of the person's credits, newest first. They add up: see `amount` and `balance`."""
    state, wanted = state_of(request), query.wanted()
    scope = ["entries", person.user_id, wanted.kinds, wanted.since, wanted.until, str(wanted.generation_id)]
    before = read_number(state.cursors, query.cursor, scope=scope) if query.cursor is not None else None
    if before is None:
        await refresh(state, user_id=person.user_id)
    async with state.reading_as(person.user_id) as connection:
        lines, following = await newest(
            connection, user_id=person.user_id, wanted=wanted, before=before, limit=query.limit
        )
    cursor = write_number(state.cursors, following, scope=scope) if following is not None else None
    page: EntryPage = {"data": lines, "has_more": cursor is not None, "next_cursor": cursor}
    return replies.json_response(page, headers=_links(state.settings.public_url, query, cursor))


def _links(public_url: str, query: EntryQuery, next_cursor: str | None) -> dict[str, str]:
    if next_cursor is None:
        return {}
    wanted = query.wanted()
    moments = {"from": wanted.since, "to": wanted.until}
    parameters: list[tuple[str, str]] = [("kind", kind) for kind in wanted.kinds]
    parameters += [(name, moment.isoformat()) for name, moment in moments.items() if moment is not None]
    parameters += [("generation_id", str(wanted.generation_id))] if wanted.generation_id is not None else []
    parameters += [("limit", str(query.limit)), ("cursor", next_cursor)]
    return {"Link": f'<{public_url}/v1/credits/entries?{urlencode(parameters)}>; rel="next"'}


@router.get("/v1/credits/balance", operation_id="getBalanceAt", response_model=BalanceAt)
async def get_balance_at(request: Request, person: SignedIn, at: Annotated[Moment | None, Query()] = None) -> Response:
    """What the books came to at a moment, now by default."""
    now = datetime.now(UTC)
    at = at or now
    if at > now:
        problem = {"parameter": "at", "code": "in-the-future", "detail": "The books know the past only."}
        raise Invalid("at is in the future; the books know the past only.", errors=[problem])
    async with state_of(request).reading_as(person.user_id) as connection:
        books = await ledger.books_at(connection, user_id=person.user_id, at=at)
    reply: BalanceAt = {
        "at": at,
        "basis": "books",
        "seq": books.seq,
        "balance": books.posted - books.overdraft_used,
        "posted": books.posted,
        "held": books.held,
        "overdraft_used": books.overdraft_used,
    }
    return replies.json_response(reply)
