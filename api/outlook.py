"""What a type's endpoints can do just now, and how long one takes that waits for them behind others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from api.durations import Durations, Seconds, mixed, seconds

HALF, MOST = 0.5, 0.9

Left = Mapping[float, float]
"""Seconds, by which share of those that are like it take no longer."""
NOTHING_LEFT: Left = {HALF: 0.0, MOST: 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An endpoint as it was a moment ago.

    Attributes:
        durations: how long its own recent ones of the type took; None: too few have finished.
        served: how many of the type finished there lately.
        per_second: how many of the type finished there a second, by the last minute.
        in_flight: how many of the type it has.
        jobs: how many it has of us at all.
        ages: how many seconds ago these were sent, the oldest first.
        limit: how many it may have of us at once; None: that is not known.
        shut: it is sent nothing now.
    """

    name: str
    endpoint_id: str
    durations: Durations | None = None
    served: int = 0
    per_second: float = 0.0
    in_flight: int = 0
    jobs: int = 0
    ages: Sequence[float] = ()
    limit: int | None = None
    shut: bool = False

    @property
    def free(self) -> int:
        """How many places there are, as far as is known."""
        return max(self.limit - self.jobs, 0) if self.limit is not None else 0

    def in_hand(self, typical: Durations) -> Left:
        """How long until the first of its jobs ends, and its place is another's; nothing where no limit is known.

        One that has taken longer than nearly all is left out: it may end now, or never. When there are no others,
        nothing is left.
        """
        if self.limit is None:
            return NOTHING_LEFT
        if not self.ages:
            return {HALF: typical.at(HALF), MOST: typical.at(MOST)}
        left = [left for age in self.ages if (left := typical.remaining(age)) is not None]
        firsts = (min((one[key] for one in left), default=0) for key in ("p50", "p90"))
        return dict(zip((HALF, MOST), firsts, strict=True))


@dataclass(frozen=True, slots=True)
class Outlook:
    """A type's endpoints; those that are shut are in nobody's way, nor of use to anybody.

    Attributes:
        doors: the endpoints, by name.
        anywhere: how long one takes that may go to any of them.
        shares: which part of those that go anywhere each serves.
        in_hand: how long until a place comes free at each, when there is none.
    """

    doors: Mapping[str, Door]
    anywhere: Durations | None
    shares: Mapping[str, float]
    in_hand: Mapping[str, Left]

    @classmethod
    def of(cls, doors: Collection[Door], *, pooled: Durations | None = None) -> Self:
        """The outlook with these; `pooled`: what all tell together, for when none of them tells enough by itself.

        Each counts as often as it served somebody lately, since that is where the next ones go; where none did, those
        that tell anything count alike.
        """
        useful = [door for door in doors if not door.shut and door.durations is not None]
        served = {door.name: float(door.served) for door in useful}
        if not any(served.values()):
            served = dict.fromkeys(served, 1.0)
        whole = sum(served.values())
        weighed = [(door.durations, served[door.name]) for door in useful if door.durations is not None]
        anywhere = mixed(weighed) or pooled
        typical = {door.name: door.durations or anywhere for door in doors}
        return cls(
            doors={door.name: door for door in doors},
            anywhere=anywhere,
            shares={name: part / whole for name, part in served.items()},
            # once for all who ask: each of a crowd would else go through all that an endpoint has
            in_hand={door.name: door.in_hand(run) for door in doors if (run := typical[door.name]) is not None},
        )

    def is_shut(self, wanted: str | None) -> bool:
        """Whether one that wants this endpoint, or any, is sent nowhere now."""
        named = self.doors.get(wanted or "")
        return named.shut if named is not None else bool(self.doors) and not self._open()

    def behind(self, ahead: float, *, wanted: str | None = None) -> Seconds | None:
        """How long one takes that waits behind so many for the endpoint that it wants; None: nobody can tell."""
        named = self.doors.get(wanted or "")
        run = self.typical(wanted)
        if run is None or self.is_shut(wanted):
            return None
        doors = [named] if named is not None else self._open()
        return seconds(*(self._ready(ahead, doors, run, share) for share in (HALF, MOST)))

    def since(self, age_seconds: float, *, endpoint: str | None) -> Seconds | None:
        """How long one takes still that was sent there so long ago; None: longer than nearly all."""
        run = self.typical(endpoint)
        return run.remaining(age_seconds) if run is not None else None

    def typical(self, endpoint: str | None) -> Durations | None:
        """How long they take there; where that is not known, anywhere."""
        door = self.doors.get(endpoint or "")
        return door.durations if door is not None and door.durations is not None else self.anywhere

    def _open(self) -> list[Door]:
        return [door for door in self.doors.values() if not door.shut]

    def _ready(self, ahead: float, doors: Sequence[Door], run: Durations, share: float) -> float:
        """When one is ready that waits behind so many for one of these doors.

        Who finds a free place goes at once. Else it waits for the job in hand that ends first, and for those before it:
        they go as fast as others were served lately, or as those in flight make room, whichever is faster. The first
        says too little of a quiet hour, the second nothing of a burst; one after the other they go at least.
        """
        each = {door.endpoint_id: door for door in doors}.values()  # one of several names is one place to go
        run_seconds = run.at(share)
        before = ahead - sum(door.free for door in each)
        if before < 0 or run_seconds <= 0:
            return run_seconds
        in_hand = min((self.in_hand[door.name][share] for door in each), default=0.0)
        room = max(sum(door.in_flight for door in doors), 1) / run_seconds
        return run_seconds + in_hand + before / max(sum(door.per_second for door in doors), room)
