"""Who waits before whom: the line of a type, and what its person's plan holds back."""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from api.outlook import Outlook
from shared import sql
from shared.database import Connection
from shared.generations import State, Type

_SQL = sql.load(__file__)

AHEAD_LIMIT = 1000
"""As many are counted one by one …"""
STRIDE = 100
"""… and beyond them every hundredth …"""
LINE_LIMIT = 50_000
"""… of so many."""
OWN_LIMIT = 1000
"""How many of one person's own are looked at, on their way and held back: more count as these."""
_LAST = UUID(int=2**128 - 1)

Place = tuple[int, UUID]


class Underway(Protocol):
    """What is asked of a generation to tell how long it takes still."""

    @property
    def id(self) -> UUID: ...  # noqa: D102 - as in `Generation`
    @property
    def type(self) -> Type: ...  # noqa: D102
    @property
    def state(self) -> State: ...  # noqa: D102
    @property
    def wanted_endpoint(self) -> str | None: ...  # noqa: D102
    @property
    def endpoint(self) -> str | None: ...  # noqa: D102
    @property
    def submitted_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def vstart(self) -> int: ...  # noqa: D102


class Own(NamedTuple):
    """One of a person's own that is before what is held back."""

    id: UUID
    type: Type
    state: State
    wanted_endpoint: str | None
    endpoint: str | None
    submitted_at: datetime | None
    vstart: int
    held_back: bool


class InHand(NamedTuple):
    """What a person has open, what is held back last and in its order; and how many may be on their way (None: all)."""

    open: Sequence[Own]
    places: int | None


@dataclass(frozen=True, slots=True)
class Line:
    """The head of a type's line as it was a moment ago, in the order in which it is sent.

    Attributes:
        lanes: the same, of each endpoint that is wanted; None: of those that go anywhere.
        further: every `STRIDE`-th of the whole line; empty where the head is all of it.
        clock: where who comes new stands.
    """

    heads: Sequence[Place] = ()
    lanes: Mapping[str | None, Sequence[Place]] = field(default_factory=dict)
    further: Sequence[Place] = ()
    clock: int = 0

    def ahead(self, place: Place) -> int:
        """How many stand before this place; `AHEAD_LIMIT` means that or more."""
        return bisect_left(self.heads, place)

    def in_the_way(self, place: Place, outlook: Outlook, *, wanted: str | None) -> float:
        """How many of them are sent before it to where it goes itself.

        Who wants a shut endpoint is in nobody's way. Who wants an open one is behind whoever wants the same, and behind
        its share of those that go anywhere.
        """
        before = {lane: bisect_left(places, place) for lane, places in self.lanes.items()}
        if wanted in outlook.doors:
            anywhere = sum(count for lane, count in before.items() if lane not in outlook.doors)
            way = before.get(wanted, 0) + anywhere * outlook.shares.get(wanted or "", 0.0)
        else:
            way = float(sum(count for lane, count in before.items() if not outlook.is_shut(lane)))
        ahead = self.ahead(place)
        if ahead >= AHEAD_LIMIT:
            way *= max(STRIDE * bisect_right(self.further, place) / ahead, 1.0)
        return way

    @property
    def newcomer(self) -> Place:
        """Where one stands that joins the line now."""
        return self.clock, _LAST


async def read_line(connection: Connection, generation_type: Type) -> Line:
    """The head of a type's line."""
    rows = await connection.fetch(_SQL["line"], generation_type, AHEAD_LIMIT)
    clock = await connection.fetchval(_SQL["clock"], generation_type)
    lanes: dict[str | None, list[Place]] = {}
    for row in rows:
        lanes.setdefault(row["wanted_endpoint"], []).append((row["vstart"], row["id"]))
    heads = [(row["vstart"], row["id"]) for row in rows]
    return Line(heads, lanes, clock=clock or 0)


async def read_further(connection: Connection, generation_type: Type) -> list[Place]:
    """Every `STRIDE`-th of a type's line that is longer than `AHEAD_LIMIT`."""
    rows = await connection.fetch(_SQL["further"], generation_type, LINE_LIMIT, STRIDE)
    return [(row["vstart"], row["id"]) for row in rows]


async def read_own(connection: Connection, user_id: str) -> InHand:
    """What a person has open."""
    rows = [*await connection.fetch(_SQL["own"], user_id, OWN_LIMIT)]
    rows += await connection.fetch(_SQL["held_back"], user_id, OWN_LIMIT)
    own = [Own(**{**row, "type": Type(row["type"]), "state": State(row["state"])}) for row in rows]
    return InHand(own, await connection.fetchval(_SQL["max_in_flight"], user_id))


def ends(on_their_way: Sequence[int], runs: Sequence[int], *, places: int) -> Iterator[int]:
    """When each of `runs` ends that follow one another in so many places, which others leave after so many seconds."""
    left = sorted(on_their_way)[-places:]
    left = [0] * (places - len(left)) + left
    for run in runs:
        end = left[0] + run
        heapq.heapreplace(left, end)
        yield end
