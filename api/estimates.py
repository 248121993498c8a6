"""When will it be ready? From what the last ones of the type took, or unknown; never invented."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from typing_extensions import TypedDict

from shared import sql
from shared.database import Connection
from shared.generations import Generation, State, Type

_SQL = sql.load(__file__)

AHEAD_LIMIT = 1000
RECENT = timedelta(hours=24)
SAMPLES = 50
SAMPLES_NEEDED = 5
KEPT_SECONDS = 10.0


class Seconds(TypedDict):
    """How many seconds from now half and nine tenths of such generations are ready."""

    p50: int
    p90: int


class Queue(TypedDict):
    """Where a generation stands. `position`: how many are ahead (1000 means that or more); null once it was sent."""

    position: int | None
    eta_seconds: Seconds | None


@dataclass(frozen=True, slots=True)
class Durations:
    """Seconds from accepted to finished, of recent generations of one type."""

    p50: float
    p90: float

    def remaining(self, age_seconds: float) -> Seconds | None:
        """What is left after `age_seconds`; None when it already took longer than nine tenths of the others."""
        if age_seconds > self.p90:
            return None
        return {"p50": math.ceil(max(self.p50 - age_seconds, 0)), "p90": math.ceil(self.p90 - age_seconds)}


class Estimates:
    """Recent durations by type, asked for at most every ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet."""
        self._clock = clock
        self._known: dict[Type, tuple[float, Durations | None]] = {}

    def forget(self) -> None:
        """Ask anew next time."""
        self._known.clear()

    async def durations(self, connection: Connection, generation_type: Type) -> Durations | None:
        """What the last ones took; None when fewer than `SAMPLES_NEEDED` finished in the last day."""
        known = self._known.get(generation_type)
        if known is not None and self._clock() - known[0] < KEPT_SECONDS:
            return known[1]
        row = await connection.fetchrow(_SQL["recent_durations"], generation_type, RECENT, SAMPLES)
        enough = row is not None and row["finished"] >= SAMPLES_NEEDED
        found = Durations(p50=row["p50"], p90=row["p90"]) if row is not None and enough else None
        self._known[generation_type] = (self._clock(), found)
        return found

    async def queue(self, connection: Connection, generation: Generation, *, now: datetime) -> Queue | None:
        """Where an open generation stands; None when it is finished."""
        if generation.state.terminal:
            return None
        position: int | None = None
        if generation.state is State.RESERVED:
            ahead = await connection.fetchval(_SQL["ahead"], generation.created_at, AHEAD_LIMIT)
            position = min(int(ahead), AHEAD_LIMIT)
        durations = await self.durations(connection, generation.type)
        age = max((now - generation.created_at).total_seconds(), 0)
        return {"position": position, "eta_seconds": durations.remaining(age) if durations else None}
