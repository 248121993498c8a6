"""`GET /v1/credits/statement`: a person's movements between two moments, for a spreadsheet (CSV) or a program (NDJSON).

The first line is the opening balance, the last the closing one, and the amounts between are the difference. Which
entries it tells is fixed when it begins, and entries never change; so it is read a page at a time, each in a
transaction of its own, and nothing is held while the client is slow.
"""

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from api import lines, replies
from api.auth import SignedIn
from api.bodies import Moment
from api.credits import refresh
from api.lines import Line, Standing
from api.state import State, state_of
from shared.errors import Invalid

PAGE_ENTRIES = 1000
COLUMNS = tuple(Line.__annotations__)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Spreadsheets run a cell that begins with one of these; the last four are the first ones in full width."""
_MEDIA_TYPES = {"csv": "text/csv; charset=utf-8; header=present", "ndjson": "application/x-ndjson"}

router = APIRouter(tags=["credits"])


class StatementQuery(BaseModel):
    """Which time, and how it is written. From the account's beginning, and up to its last entry, unless it is said."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[Moment | None, Field(alias="from", description="from this moment on")] = None
    until: Annotated[Moment | None, Field(alias="to", description="to before this moment")] = None
    format: Literal["csv", "ndjson"] = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a statement will tell, fixed when it begins."""

    user_id: str
    since: datetime | None
    until: datetime
    entries: range
    opening: Standing
    closing: Standing


@router.head("/v1/credits/statement", include_in_schema=False)
@router.get(
    "/v1/credits/statement",
    operation_id="exportStatement",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {name.partition(";")[0]: {"schema": {"type": "string"}} for name in _MEDIA_TYPES.values()},
            "description": "Opening balance, every movement, closing balance; one that breaks off has no closing line",
        }
    },
)
async def export_statement(request: Request, person: SignedIn, query: Annotated[StatementQuery, Query()]) -> Response:
    """A person's movements, oldest first, between two balances. Times are in UTC."""
    state, now = state_of(request), datetime.now(UTC)
    _check(query, now)
    headers = {"Content-Disposition": f'attachment; filename="{_filename(query, now)}"'}
    if request.method == "HEAD":
        return Response(media_type=_MEDIA_TYPES[query.format], headers=headers)
    await refresh(state, user_id=person.user_id)
    statement = await begin(state, user_id=person.user_id, since=query.since, until=query.until)
    chunks = written(state, statement, as_csv if query.format == "csv" else as_ndjson)
    return StreamingResponse(chunks, media_type=_MEDIA_TYPES[query.format], headers=headers)


def _check(query: StatementQuery, now: datetime) -> None:
    wrong = None
    if query.since is not None and query.since >= now:
        wrong = "from must be in the past."
    elif query.since is not None and query.until is not None and query.since >= query.until:
        wrong = "from must be before to."
    if wrong is not None:
        raise Invalid(wrong, errors=[{"parameter": "from", "code": "no-such-range", "detail": wrong}])


def _filename(query: StatementQuery, now: datetime) -> str:
    first = f"{query.since:%Y-%m-%d}" if query.since is not None else "start"
    return f"social-twin-credits-{first}-to-{min(query.until or now, now):%Y-%m-%d}.{query.format}"


async def begin(state: State, *, user_id: str, since: datetime | None, until: datetime | None) -> Statement:
    """Fix what a statement tells: the entries there are now, and the balances around them."""
    async with state.reading_as(user_id) as connection:
        entries = await lines.span(connection, user_id=user_id, since=since, until=until)
        opening = await lines.standing(connection, user_id=user_id, seq=entries.start - 1)
        closing = await lines.standing(connection, user_id=user_id, seq=entries.stop - 1)
    return Statement(
        user_id=user_id,
        since=since,
        until=_ends_at(since, until, closing),
        entries=entries,
        opening=opening,
        closing=closing,
    )


def _ends_at(since: datetime | None, until: datetime | None, closing: Standing) -> datetime:
    """The moment up to which everything is told: a statement from then on misses nothing and tells nothing twice.

    When it goes up to now that is right after its last entry. Later ones may be on their way: they are dated when the
    account is locked, and seen when that is committed.
    """
    now = datetime.now(UTC)
    if until is not None and until <= now:
        return until
    if closing.at is None:
        return now
    after = closing.at + timedelta(microseconds=1)
    return after if since is None else max(since, after)


async def written(
    state: State,
    statement: Statement,
    write: Callable[[Sequence[dict[str, Any]]], bytes],
    page_entries: int = PAGE_ENTRIES,
) -> AsyncIterator[bytes]:
    """The statement in chunks of at most `page_entries` lines, in this format."""
    yield write([_balance("opening", statement.since, statement.opening)])
    left = statement.entries
    while left:
        async with state.reading_as(statement.user_id) as connection:
            page = await lines.onward(connection, user_id=statement.user_id, entries=left, limit=page_entries)
        if not page:
            break
        yield write([{**line} for line in page])
        left = range(page[-1]["seq"] + 1, left.stop)
    yield write([_balance("closing", statement.until, statement.closing)])


def _balance(kind: str, at: datetime | None, standing: Standing) -> dict[str, Any]:
    words = f"{kind.capitalize()} balance"
    return {"at": at, "kind": kind, "description": words, "balance": standing.balance, "held": standing.held}


def as_ndjson(rows: Sequence[dict[str, Any]]) -> bytes:
    """One JSON object a line."""
    return b"".join(replies.dump(row) + b"\n" for row in rows)


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """RFC 4180; the header comes before the opening balance."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if rows[0]["kind"] == "opening":
        writer.writerow(COLUMNS)
    writer.writerows([_cell(row.get(column)) for column in COLUMNS] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"  # or a spreadsheet would run what somebody else wrote
    return value
