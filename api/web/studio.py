"""What the page shows, gathered: the desk (form, price, pictures) and the history. Reads only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from api import replies
from api.estimates import Queue
from api.generations import list_page
from api.history import Filter, Priced, page
from api.quotes import quote
from api.replies import GenerationReply
from api.state import State
from api.web.arriving import fill_in
from api.web.cards import Day, Medium, days, media
from api.web.drafts import LIMITS, Draft
from shared import ledger, pricing, sql
from shared.database import Connection
from shared.errors import InvalidCursor
from shared.generations import Generation, Type
from shared.generations import State as Status
from shared.pricing import Cost

_SQL = sql.load(__file__)

PAGE_SIZE = 12
PICTURES_SHOWN = 10
PICTURES = Filter((Type.IMAGE, Type.MODIFY), (Status.COMPLETED,))
IDEAS = (
    (Type.IMAGE, "A lighthouse in a paper storm, seen from the sea"),
    (Type.TEXT, "A birthday toast for someone who hates speeches"),
    (Type.VIDEO, "Ink clouds unfolding in slow water"),
)


@dataclass(frozen=True, slots=True)
class Person:
    """Whose page this is, and their clock."""

    user_id: str
    zone: ZoneInfo

    @property
    def today(self) -> date:
        """The date where the person is."""
        return datetime.now(self.zone).date()


async def person(state: State, user_id: str) -> Person:
    """The person with their time zone; UTC for somebody new, or a zone that this machine does not know."""
    async with state.reading_as(user_id) as connection:
        name = await connection.fetchval(_SQL["time_zone"], user_id)
    try:
        return Person(user_id, ZoneInfo(name or "UTC"))
    except (ZoneInfoNotFoundError, ValueError):
        return Person(user_id, ZoneInfo("UTC"))


async def unit_prices(state: State) -> list[dict[str, Any]]:
    """What one of each kind costs now, in the order of the kinds."""
    async with state.connection() as connection:
        prices = await pricing.current(connection)
    return [{"type": kind, "unit": prices[kind].unit_credits} for kind in Type if kind in prices]


async def balance(connection: Connection, user_id: str) -> replies.BalanceReply:
    """What the masthead shows."""
    return replies.balance_reply(await ledger.balance(connection, user_id=user_id))


async def pictures(state: State, connection: Connection, user_id: str) -> list[Medium]:
    """The person's newest pictures, as sources for a modification."""
    found, _ = await page(connection, user_id=user_id, wanted=PICTURES, after=None, limit=PICTURES_SHOWN)
    mine = [medium for item in found for medium in media(shown(state, item)) if medium.source]
    return mine[:PICTURES_SHOWN]


def shown(state: State, item: Priced, *, queue: Queue | None = None) -> GenerationReply:
    """The API's reply about a generation."""
    return replies.generation_reply(
        item.generation, cost=item.cost, storage=state.storage, public_url=state.settings.public_url, queue=queue
    )


async def desk(state: State, whose: Person, draft: Draft, *, day: str) -> dict[str, Any]:
    """What the form needs. `day` is the day whose list on the page takes new cards; empty if there is none."""
    priced = await quote(state, user_id=whose.user_id, generation_type=draft.type, batch_size=draft.batch_size)
    kinds = await unit_prices(state)
    async with state.reading_as(whose.user_id) as connection:
        mine = await pictures(state, connection, whose.user_id)
        if draft.source and all(picture.source != draft.source for picture in mine):
            mine = [*await _older_picture(state, connection, whose.user_id, draft.source), *mine]
    return {
        "draft": draft,
        "quote": priced,
        "kinds": kinds,
        "pictures": mine,
        "limits": LIMITS,
        "day": day,
        "trouble": None,
        "notice": None,
        "filled_by_link": False,
    }


async def _older_picture(state: State, connection: Connection, user_id: str, source: str) -> list[Medium]:
    try:
        generation_id = UUID(source.partition(":")[0])
    except ValueError:
        return []
    rows = await connection.fetch(_SQL["picture"], user_id, generation_id)
    found = [Priced(Generation.from_row(row), Cost.from_snapshot(row["price"])) for row in rows]
    return [medium for item in found for medium in media(shown(state, item)) if medium.source == source]


async def deleted(state: State, user_id: str, generation_id: UUID) -> dict[str, Any] | None:
    """What a person deleted and can have back."""
    async with state.reading_as(user_id) as connection:
        row = await connection.fetchrow(_SQL["deleted"], user_id, generation_id)
    return dict(row) if row else None


async def history(
    state: State, whose: Person, *, before: str | None, shown_day: str | None = None, with_today: bool = False
) -> dict[str, Any]:
    """A page of what was made.

    Raises:
        InvalidCursor: `before` is not from here.
    """
    listed = await list_page(state, user_id=whose.user_id, wanted=Filter(), cursor=before, limit=PAGE_SIZE)
    async with state.reading_as(whose.user_id) as connection:
        await fill_in(connection, listed["data"])
    grouped: list[Day] = days(listed["data"], whose.zone, today=whose.today, shown_day=shown_day, with_today=with_today)
    return {"days": grouped, "next_cursor": listed["next_cursor"], "continued": before is not None}


async def home(state: State, whose: Person, draft: Draft, *, before: str | None) -> dict[str, Any]:
    """The whole page. A cursor that makes no sense falls back to the beginning, with a notice."""
    since = int(datetime.now(UTC).timestamp() * 1000)
    notice = None
    try:
        earlier = await history(state, whose, before=before, with_today=before is None)
    except InvalidCursor:
        notice = "That link to earlier work is no longer good; this is the beginning."
        before = None
        earlier = await history(state, whose, before=None, with_today=True)
    form = await desk(state, whose, draft, day="" if before else whose.today.isoformat())
    async with state.reading_as(whose.user_id) as connection:
        has = await balance(connection, whose.user_id)
    units: Mapping[Type, int] = {kind["type"]: kind["unit"] for kind in form["kinds"]}
    ideas = [
        {"type": kind, "prompt": prompt, "cost": units[kind], "query": urlencode({"type": kind, "prompt": prompt})}
        for kind, prompt in IDEAS
        if kind in units
    ]
    return {**form, **earlier, "balance": has, "since": since, "ideas": ideas, "notice": notice, "gone": None}
