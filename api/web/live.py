"""`GET /live`: one stream a page, of re-rendered cards and the balance, as they change.

What is sent is read from Postgres since the position that the stream's last id names, so whoever comes back misses
nothing; word from the hub only says when to look. Cards that are not on the page are dropped by htmx; `created` names
new ones, so that the page can say "1 new". `credits` says that the price preview is worth asking for again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse

from api.estimates import Queue
from api.events import COMMENT_SECONDS, HEADERS, MAXIMUM_AGE_SECONDS
from api.history import Priced
from api.hub import Listener
from api.places import Told, news
from api.state import State, state_of
from api.web import studio, words
from api.web.arriving import Arrivals
from api.web.cards import Card, Medium, card
from api.web.drafts import Draft
from api.web.problems import sign_in_first
from api.web.rendering import Renderer, renderer_of
from api.web.session import Visitor
from api.web.studio import Person
from shared import sql
from shared.database import UNREACHABLE
from shared.generations import LONGEST_LIFE, Generation, Type
from shared.generations import State as Status
from shared.pricing import Cost

_SQL = sql.load(__file__)

LOOK_SECONDS = 3.0
"""How often to look without word, for when Redis is away."""
TEXT_LOOK_SECONDS = 1.0
"""The same while a text may grow."""
OVERLAP = timedelta(seconds=10)
"""Transactions commit out of order, and clocks differ: this much is read again, and dropped when it was sent."""
REACH = timedelta(hours=1)
"""How far back a stream goes on; whoever was away for longer loads the page anew."""
WAITING = 50
"""How many of the person's waiting ones are told of their place in line: those that come first."""
BATCH = 200
"""How many changes one look reads; who is further behind looks again at once."""

router = APIRouter(include_in_schema=False)
Position = Annotated[int | None, Query(ge=0, lt=2**43)]


@router.get("/live")
async def live(
    request: Request, person: Visitor, since: Position = None, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Follow everything of this person's, from `since` (milliseconds since 1970) or where the last stream ended."""
    if person is None:
        return sign_in_first(request)
    state = state_of(request)
    whose = await studio.person(state, person.user_id)
    position = _position(last_event_id, since)
    state.hub.expect_room(person.user_id)

    async def stream() -> AsyncIterator[bytes]:
        if not state.hub.has_room(person.user_id):
            return  # others of theirs came at the same moment; the page comes back
        with state.hub.listen(person.user_id) as listener:
            async for message in _messages(Follower(state, renderer_of(request), whose, position), listener):
                yield message

    return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)


def _position(last_event_id: str | None, since: int | None) -> datetime:
    """Where to go on, at most `REACH` ago; the last id is the more recent of the two. Nonsense is now."""
    now = datetime.now(UTC)
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 14:
        since = int(last_event_id)
    return min(max(datetime.fromtimestamp(since / 1000, UTC), now - REACH), now) if since is not None else now


async def _messages(follower: "Follower", listener: Listener) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    end, spoke = clock() + MAXIMUM_AGE_SECONDS, clock()
    yield b": here\n\n"
    while clock() < end and not follower.state.hub.closing:
        try:
            news = await follower.look()
        except UNREACHABLE:
            return  # the page comes back with the last id
        for message in news:
            yield message
            spoke = clock()
        if clock() - spoke >= COMMENT_SECONDS:
            yield b": still here\n\n"
            spoke = clock()
        if not follower.behind:
            await listener.wait(TEXT_LOOK_SECONDS if follower.arrivals else LOOK_SECONDS)


@dataclass(slots=True)
class Follower:
    """What one stream has sent so far."""

    state: State
    renderer: Renderer
    whose: Person
    position: datetime
    batch: int = BATCH
    arrivals: Arrivals = field(default_factory=Arrivals, init=False)
    behind: bool = field(default=False, init=False)
    _after: tuple[datetime, UUID] = field(init=False)
    _started: datetime = field(init=False)
    clock: Callable[[], float] = time.monotonic
    _sent: dict[UUID, tuple[Any, ...]] = field(default_factory=dict, init=False)
    _told: dict[UUID, Told] = field(default_factory=dict, init=False)
    _balance: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Remember where this stream began."""
        self._started = self.position
        self._after = (self.position - OVERLAP, UUID(int=0))

    async def look(self) -> list[bytes]:
        """The messages for whatever changed since the last look; `behind` when there is more than one look reads."""
        async with self.state.reading_as(self.whose.user_id) as connection:
            page = await connection.fetch(_SQL["changed"], self.whose.user_id, *self._after, LONGEST_LIFE, self.batch)
            sent = await connection.fetch(_SQL["sent"], self.whose.user_id, LONGEST_LIFE, self.batch)
            waiting = await connection.fetch(_SQL["waiting"], self.whose.user_id, WAITING)
            rows = {row["id"]: row for row in (*page, *sent, *filter(self._told_of, waiting))}.values()
            balance = await studio.balance(connection, self.whose.user_id)
        changed = [Generation.from_row(row) for row in rows]
        queues = await self.state.queues(changed)
        fresh = self._fresh(changed, queues)
        pictures = await self._pictures(fresh)
        async with self.state.reading_as(self.whose.user_id) as connection:
            arrived = await self.arrivals.look(connection, fresh)
        prices = {row["id"]: Cost.from_snapshot(row["price"]) for row in rows}
        created = [g.id for g in fresh if g.id not in self._sent and self._is_new(g.created_at)]
        self._sent.update({g.id: _mark(g) for g in fresh})
        self._move_on(page)
        first = self._balance is None
        moved, self._balance = balance != self._balance, balance
        if not fresh and not moved and not arrived.additions:
            return []
        html = self.renderer.text(
            "live.html",
            cards=[self._card(g, prices[g.id], queues.get(g.id), text=arrived.texts.get(g.id)) for g in fresh],
            additions=arrived.additions,
            balance=balance if moved else None,
            pictures=pictures,
            draft=Draft(),
            announcement=_announcement(
                [g for g in fresh if g.finished_at and g.finished_at >= self._started], begun=arrived.begun
            ),
        )
        return self._messages(html, created, credits_moved=moved and bool(fresh or not first))

    def _fresh(self, changed: Sequence[Generation], queues: Mapping[UUID, Queue]) -> list[Generation]:
        """Those whose cards say something else now. What grows already is not shown anew to say when it is whole."""
        now = self.clock()
        waiting = {key: queue for key, queue in queues.items() if not self.arrivals.has(key)}
        told = set(news(self._told, waiting, now=now))
        fresh = [g for g in changed if g.id in told or self._sent.get(g.id) != _mark(g)]
        self._told.update({g.id: Told(queues[g.id], now) for g in fresh if g.id in queues})
        return fresh

    def _is_new(self, created_at: datetime) -> bool:
        return created_at >= self._started - OVERLAP

    def _told_of(self, row: asyncpg.Record) -> bool:
        """Whether the page has its card; one that is new comes in the order of what changed."""
        return row["id"] in self._sent or not self._is_new(row["created_at"])

    async def _pictures(self, fresh: Sequence[Generation]) -> list[Medium]:
        """The pictures to choose from, when one of these is among them now."""
        if not any(g.state is Status.COMPLETED and g.type in (Type.IMAGE, Type.MODIFY) for g in fresh):
            return []
        async with self.state.reading_as(self.whose.user_id) as connection:
            return await studio.pictures(self.state, connection, self.whose.user_id)

    def _card(self, generation: Generation, cost: Cost, queue: Queue | None, *, text: str | None) -> Card:
        reply = studio.shown(self.state, Priced(generation, cost), queue=queue)
        reply["text_so_far"] = text
        return card(reply, self.whose.zone)

    def _move_on(self, page: Sequence[asyncpg.Record]) -> None:
        self.position = max([self.position, *(row["changed_at"] for row in page)])
        self.behind = len(page) == self.batch
        # A full page is followed by the next one; only then is the overlap read again.
        self._after = (
            (page[-1]["changed_at"], page[-1]["id"]) if self.behind else (self.position - OVERLAP, UUID(int=0))
        )

    def _messages(self, html: str, created: Sequence[UUID], *, credits_moved: bool) -> list[bytes]:
        position = str(int(self.position.timestamp() * 1000))
        messages = [format_sse_event(data_str=str(generation_id), event="created") for generation_id in created]
        messages.append(format_sse_event(data_str=html, id=position))
        if credits_moved:
            messages.append(format_sse_event(data_str="changed", event="credits"))
        return messages


def _announcement(ended: Sequence[Generation], *, begun: int) -> str:
    """Of a text that grows its beginning is told, and its end."""
    endings = [words.announcement(g.type, g.state, charged=g.charged or 0) for g in ended]
    return " ".join([words.BEGUN, *endings] if begun and not endings else endings)


def _mark(generation: Generation) -> tuple[Any, ...]:
    return generation.version, generation.cancel_requested_at, generation.progress
