"""When will it be ready? From where it stands in line and what the last ones took, or unknown; never invented.

What is asked of Postgres is kept for a moment and serves everybody who asks this process: however many pages follow
however many generations, the lines are read a few times a second.
"""

import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from typing_extensions import TypedDict

from shared import sql
from shared.database import Connection
from shared.generations import Generation, State, Type

_SQL = sql.load(__file__)

AHEAD_LIMIT = 1000
RECENT = timedelta(hours=24)
SAMPLES = 500
SAMPLES_NEEDED = 5
SHARES = [step / 20 for step in range(21)]
LATELY = timedelta(minutes=1)
IN_FLIGHT_LIMIT = 10_000
HISTORY_KEPT_SECONDS = 10.0
LINE_KEPT_SECONDS = 0.25


class Seconds(TypedDict):
    """How many seconds from now half and nine tenths of such generations are ready."""

    p50: int
    p90: int


class Queue(TypedDict):
    """Where a generation stands.

    `position`: how many are ahead in line (1000 means that or more); null once it was sent, and while it is held back.
    `held_back`: as many of the person's own are on their way as their plan allows; it joins the line when one ended.
    """

    position: int | None
    held_back: bool
    eta_seconds: Seconds | None


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds from sent to finished, of recent generations: quantiles at SHARES, from the quickest to the slowest."""

    quantiles: Sequence[float]

    @property
    def p50(self) -> float:
        """What half of them took at most."""
        return self._at(0.5)

    @property
    def p90(self) -> float:
        """What nine tenths of them took at most."""
        return self._at(0.9)

    def remaining(self, age_seconds: float) -> Seconds | None:
        """What is left after `age_seconds`, as those tell that took longer; None when hardly any did."""
        if age_seconds >= self.p90:
            return None
        longer = 1 - self._share(age_seconds)
        p50, p90 = (self._at(1 - longer * (1 - part)) - age_seconds for part in (0.5, 0.9))
        return {"p50": math.ceil(p50), "p90": math.ceil(p90)}

    def _at(self, share: float) -> float:
        place = share * (len(self.quantiles) - 1)
        below = min(int(place), len(self.quantiles) - 2)
        low, high = self.quantiles[below : below + 2]
        return low + (high - low) * (place - below)

    def _share(self, seconds: float) -> float:
        """How many took no longer; `seconds` is less than the slowest took."""
        above = bisect_right(self.quantiles, seconds)
        if above == 0:
            return 0.0
        low, high = self.quantiles[above - 1 : above + 1]
        return (above - 1 + (seconds - low) / (high - low)) / (len(self.quantiles) - 1)


@dataclass(frozen=True, slots=True)
class History:
    """What a type's recent generations tell; `endpoints` has only those of which enough have finished.

    `shut`: the endpoints that are sent nothing now; `all_shut`: there are no others.
    """

    endpoints: Mapping[str, Durations]
    altogether: Durations | None
    in_flight: int
    sent_per_second: float
    shut: Collection[str] = ()
    all_shut: bool = False

    def behind(self, ahead: int, *, wanted: str | None = None) -> Seconds | None:
        """How long one that waits behind so many, for the endpoint that it wants, will take; None: nobody can tell.

        The line moves as fast as generations were sent lately, or as those in flight make room, whichever is faster:
        the first says too little of a quiet hour, the second nothing of a burst.
        """
        durations = self.endpoints.get(wanted or "", self.altogether)
        shut = self.all_shut if wanted is None else wanted in self.shut
        if durations is None or shut or ahead >= AHEAD_LIMIT:
            return None
        p50, p90 = (self._waits(ahead, run) for run in (durations.p50, durations.p90))
        if p50 is None or p90 is None:
            return None
        return {"p50": math.ceil(p50), "p90": math.ceil(max(p50, p90))}

    def _waits(self, ahead: int, run_seconds: float) -> float | None:
        if ahead == 0:
            return run_seconds
        per_second = max(self.sent_per_second, self.in_flight / run_seconds if run_seconds > 0 else 0.0)
        return run_seconds + ahead / per_second if per_second > 0 else None


class Estimates:
    """The lines and the recent history of each type, as they were a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet."""
        self._clock = clock
        self._histories: dict[Type, tuple[float, History]] = {}
        self._lines: dict[Type, tuple[float, list[tuple[int, UUID]]]] = {}

    def forget(self) -> None:
        """Ask anew next time."""
        self._histories.clear()
        self._lines.clear()

    async def queue(self, connection: Connection, generation: Generation, *, now: datetime) -> Queue | None:
        """Where an open generation stands; None when it is finished."""
        if generation.state.terminal:
            return None
        if generation.held_back:
            return {"position": None, "held_back": True, "eta_seconds": None}
        history = await self._history(connection, generation.type)
        if generation.state is State.RESERVED:
            line = await self._line(connection, generation.type)
            ahead = bisect_left(line, (generation.vstart, generation.id))
            eta = history.behind(ahead, wanted=generation.wanted_endpoint)
            return {"position": ahead, "held_back": False, "eta_seconds": eta}
        durations = history.endpoints.get(generation.endpoint or "")
        sent = generation.submitted_at or now
        age = max((now - sent).total_seconds(), 0)
        return {"position": None, "held_back": False, "eta_seconds": durations.remaining(age) if durations else None}

    async def queues(
        self, connection: Connection, generations: Iterable[Generation], *, now: datetime
    ) -> dict[UUID, Queue]:
        """Where each of those stands that are open."""
        stand = {generation.id: await self.queue(connection, generation, now=now) for generation in generations}
        return {generation_id: queue for generation_id, queue in stand.items() if queue is not None}

    async def _line(self, connection: Connection, generation_type: Type) -> list[tuple[int, UUID]]:
        known = self._lines.get(generation_type)
        if known is not None and self._clock() - known[0] < LINE_KEPT_SECONDS:
            return known[1]
        rows = await connection.fetch(_SQL["line"], generation_type, AHEAD_LIMIT)
        line = [(row["vstart"], row["id"]) for row in rows]
        self._lines[generation_type] = (self._clock(), line)
        return line

    async def _history(self, connection: Connection, generation_type: Type) -> History:
        known = self._histories.get(generation_type)
        if known is not None and self._clock() - known[0] < HISTORY_KEPT_SECONDS:
            return known[1]
        rows = await connection.fetch(_SQL["recent"], generation_type, RECENT, SAMPLES, LATELY, SHARES)
        in_flight = await connection.fetchval(_SQL["in_flight"], generation_type, IN_FLIGHT_LIMIT)
        found = {row["endpoint"]: Durations(row["quantiles"]) for row in rows if row["finished"] >= SAMPLES_NEEDED}
        altogether = found.pop(None, None)
        sent_lately = max((row["sent_lately"] for row in rows), default=0)
        doors = {row["name"]: row["shut"] for row in await connection.fetch(_SQL["doors"], generation_type)}
        history = History(
            found,
            altogether,
            in_flight,
            sent_lately / LATELY.total_seconds(),
            shut={name for name, shut in doors.items() if shut},
            all_shut=bool(doors) and all(doors.values()),
        )
        self._histories[generation_type] = (self._clock(), history)
        return history
