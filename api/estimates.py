"""When will it be ready? From where it stands in line and what the last ones took, or unknown; never invented.

What is asked of Postgres is kept for a moment and serves everybody who asks this process: however many pages follow
however many generations, the lines are read a few times a second. Only what one person has held back is read each time.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from typing_extensions import TypedDict

from api import waiting
from api.durations import SHARES, Durations, Seconds, mixed, seconds
from api.outlook import Door, Outlook
from api.waiting import InHand, Line, Own, Place, Underway
from shared import sql
from shared.database import Connection
from shared.generations import Generation, State, Type

_SQL = sql.load(__file__)

RECENT = timedelta(hours=24)
SAMPLES = 500
SAMPLES_NEEDED = 5
SERVED = timedelta(minutes=10)
"""How far back an endpoint's share of those that go anywhere is counted."""
JUST_NOW = timedelta(minutes=1)
COUNT_LIMIT = 10_000
AGES = 20
LEARNT = timedelta(seconds=90)
"""How long a learnt limit counts (worker/capacity.py says the same)."""
HISTORY_KEPT_SECONDS = 10.0
DOORS_KEPT_SECONDS = 2.0
LINE_KEPT_SECONDS = 0.25

T = TypeVar("T")


class History(NamedTuple):
    """What the recent ones of a type tell: each endpoint's own, and all together."""

    doors: Mapping[str, Door]
    pooled: Durations | None


class Queue(TypedDict):
    """Where a generation stands, and how long it takes still.

    `position`: how many are ahead in line (1000 means that or more); null once it was sent, and while it is held back.
    `held_back`: as many of the person's own are on their way as their plan allows; it joins the line when one ended.
    `eta_seconds`: within how many seconds half and nine tenths of such generations are ready. Coarse with 1000 or more
    ahead, which are counted by the hundred, and while it is held back: then it is reckoned from what is left of the
    person's own, one after the other. Null as long as nobody can tell: fewer than five of its type have finished within
    a day, whatever may take it is paused or failing, or it has taken longer than nine tenths of the last ones did.
    """

    position: int | None
    held_back: bool
    eta_seconds: Seconds | None


class Kept(Generic[T]):
    """What was read of each type, for a while."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Keep it for so long."""
        self._seconds = seconds
        self._clock = clock
        self._read: dict[Type, tuple[float, T]] = {}

    async def get(self, generation_type: Type, read: Callable[[], Awaitable[T]]) -> T:
        """What is kept of a type, or what is read now."""
        known = self._read.get(generation_type)
        if known is not None and self._clock() - known[0] < self._seconds:
            return known[1]
        found = await read()
        self._read[generation_type] = (self._clock(), found)
        return found

    def forget(self) -> None:
        """Read anew next time."""
        self._read.clear()


class Estimates:
    """The lines, the endpoints and the recent history of each type, as they were a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet."""
        self._histories: Kept[History] = Kept(HISTORY_KEPT_SECONDS, clock)
        self._outlooks: Kept[Outlook] = Kept(DOORS_KEPT_SECONDS, clock)
        self._further: Kept[Sequence[Place]] = Kept(HISTORY_KEPT_SECONDS, clock)
        self._lines: Kept[Line] = Kept(LINE_KEPT_SECONDS, clock)

    def forget(self) -> None:
        """Ask anew next time."""
        for kept in (self._histories, self._outlooks, self._further, self._lines):
            kept.forget()

    async def queue(self, connection: Connection, generation: Generation, *, now: datetime) -> Queue | None:
        """Where an open generation stands; None when it is finished."""
        held_back, user_id = generation.held_back, generation.user_id
        own = {user_id: await waiting.read_own(connection, user_id)} if held_back else {}
        return (await self.queues(connection, [generation], own=own, now=now)).get(generation.id)

    async def queues(
        self, connection: Connection, generations: Iterable[Generation], *, own: Mapping[str, InHand], now: datetime
    ) -> dict[UUID, Queue]:
        """Where each of those stands that are open. `own`: what those people have open of whom any is held back."""
        stand: dict[UUID, Queue] = {}
        held_back: dict[str, list[Generation]] = {}
        for generation in generations:
            if generation.held_back:
                held_back.setdefault(generation.user_id, []).append(generation)
            elif not generation.state.terminal:
                stand[generation.id] = await self._stands(connection, generation, now=now)
        for user_id, theirs in held_back.items():
            left = await self._held_back(connection, own[user_id], now=now)
            for generation in theirs:
                eta = left.get(generation.id)
                stand[generation.id] = {"position": None, "held_back": True, "eta_seconds": eta}
        return stand

    async def _stands(self, connection: Connection, generation: Underway, *, now: datetime) -> Queue:
        outlook = await self._outlook(connection, generation.type)
        if generation.state is State.RESERVED:
            line = await self._line(connection, generation.type)
            place, wanted = (generation.vstart, generation.id), generation.wanted_endpoint
            eta = outlook.behind(line.in_the_way(place, outlook, wanted=wanted), wanted=wanted)
            return {"position": line.ahead(place), "held_back": False, "eta_seconds": eta}
        sent = generation.submitted_at if generation.state is not State.SUBMITTING else None
        age = max((now - (sent or now)).total_seconds(), 0)
        eta = outlook.since(age, endpoint=generation.endpoint)
        return {"position": None, "held_back": False, "eta_seconds": eta}

    async def _held_back(self, connection: Connection, own: InHand, *, now: datetime) -> dict[UUID, Seconds]:
        """When what a person has held back is ready, as far as somebody can tell.

        Each joins the line, where who comes new stands, when one before it has ended. Of one on its way of which nobody
        can tell what is left, as much is left as if it were sent now.
        """
        sent, held = [one for one in own.open if not one.held_back], [one for one in own.open if one.held_back]
        left = [await self._left(connection, one, now=now) for one in sent]
        known = [eta for eta in left if eta is not None]
        if len(known) < len(left):
            return {}
        runs: list[Seconds] = []
        alike: dict[tuple[Type, str | None], Seconds | None] = {}
        for one in held:
            kind = one.type, one.wanted_endpoint
            if kind not in alike:
                alike[kind] = await self._joining(connection, one, after=sent)
            run = alike[kind]
            if run is None:  # of whatever follows it nobody can tell either
                break
            runs.append(run)
        count = min(own.places or waiting.OWN_LIMIT, waiting.OWN_LIMIT)
        halves = waiting.ends([eta["p50"] for eta in known], [run["p50"] for run in runs], places=count)
        mosts = waiting.ends([eta["p90"] for eta in known], [run["p90"] for run in runs], places=count)
        return {one.id: seconds(half, most) for one, half, most in zip(held, halves, mosts, strict=False)}

    async def _left(self, connection: Connection, one: Own, *, now: datetime) -> Seconds | None:
        eta = (await self._stands(connection, one, now=now))["eta_seconds"]
        if eta is None and one.state is not State.RESERVED:
            eta = (await self._outlook(connection, one.type)).since(0, endpoint=one.endpoint)
        return eta

    async def _joining(self, connection: Connection, one: Own, *, after: Sequence[Own]) -> Seconds | None:
        """How long it takes once it is let in; those of its person's own that are in line now are gone by then."""
        outlook, line = await self._outlook(connection, one.type), await self._line(connection, one.type)
        before = line.in_the_way(line.newcomer, outlook, wanted=one.wanted_endpoint)
        own = sum(
            each.type is one.type and each.state is State.RESERVED and each.vstart <= line.clock for each in after
        )
        return outlook.behind(max(before - own, 0), wanted=one.wanted_endpoint)

    async def _line(self, connection: Connection, generation_type: Type) -> Line:
        async def further() -> Sequence[Place]:
            return await waiting.read_further(connection, generation_type)

        async def read() -> Line:
            line = await waiting.read_line(connection, generation_type)
            is_long = len(line.heads) >= waiting.AHEAD_LIMIT
            return replace(line, further=await self._further.get(generation_type, further)) if is_long else line

        return await self._lines.get(generation_type, read)

    async def _outlook(self, connection: Connection, generation_type: Type) -> Outlook:
        async def history() -> History:
            return await _read_history(connection, generation_type)

        async def read() -> Outlook:
            known = await self._histories.get(generation_type, history)
            return Outlook.of(await _read_doors(connection, generation_type, known.doors), pooled=known.pooled)

        return await self._outlooks.get(generation_type, read)


async def _read_history(connection: Connection, generation_type: Type) -> History:
    rows = await connection.fetch(
        _SQL["recent"], generation_type, RECENT, SAMPLES, SHARES, SERVED, JUST_NOW, COUNT_LIMIT
    )
    told = [(Durations(row["quantiles"]), row["finished"]) for row in rows]
    doors = {
        row["endpoint"]: Door(
            name=row["endpoint"],
            endpoint_id=row["endpoint_id"],
            durations=durations if finished >= SAMPLES_NEEDED else None,
            served=row["served"],
            per_second=row["just_now"] / JUST_NOW.total_seconds(),
        )
        for row, (durations, finished) in zip(rows, told, strict=True)
    }
    enough = sum(finished for _, finished in told) >= SAMPLES_NEEDED
    return History(doors, mixed(told) if enough else None)


async def _read_doors(connection: Connection, generation_type: Type, served: Mapping[str, Door]) -> list[Door]:
    """Each endpoint as it is, with its history."""
    names, ids = list(served), [door.endpoint_id for door in served.values()]
    rows = await connection.fetch(_SQL["doors"], generation_type, names, ids, LEARNT, COUNT_LIMIT, AGES)
    return [
        replace(
            served.get(row["name"], Door(name=row["name"], endpoint_id=row["endpoint_id"])),
            endpoint_id=row["endpoint_id"],
            in_flight=row["in_flight"],
            jobs=row["jobs"],
            ages=row["ages"],
            limit=row["most"],
            shut=row["shut"],
        )
        for row in rows
    ]
