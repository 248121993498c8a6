"""Places at endpoints, dealt within what breakers, allowances and limits leave; each carries a token of the allowance.

Who goes anywhere is drawn an endpoint: the lowest priority number comes first, and within it the weights decide; what
finds no room there goes to the next number. One that is out of machines is passed over while another is open. For who
wants an endpoint by name, places are kept there. Whatever it was dealt for, each place is taken by whoever stands first
of those that may go there (worker/line.py), so that naming an endpoint buys nothing, and nor does coming for one of its
types before another. An endpoint whose breaker half-opens gets one place, the probe, which one of all workers has.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection
from shared.generations import Type
from worker import breaker, capacity
from worker.allowances import Allowances
from worker.endpoints import Profile
from worker.shares import Shares
from worker.transitions import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An endpoint as it was at the last look: how many wait that go anywhere, and that want it by name.

    `in_flight`: its jobs of ours; `unseen`: how many of them have ended without our knowing (worker/line.py); `out`: it
    said lately that none of its machines works or starts.
    """

    profile: Profile
    breaker: str
    failures: int
    may_probe: bool
    waiting: int
    wanted: int
    in_flight: int
    unseen: int
    limit: int
    out: bool

    @property
    def endpoint_id(self) -> str:
        """RunPod's id of it."""
        return self.profile.endpoint.endpoint_id

    @property
    def is_open(self) -> bool:
        """Whether its breaker lets anything through."""
        return self.breaker == "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """The places for one claim.

    Attributes:
        slots: how many may be claimed in all.
        waiting: how many wait for each endpoint, whoever may go there; not all of very many are counted.
        most: how many of each type may be claimed.
        draws: where those go that go anywhere, in order; a place may be drawn once for each type that may go there.
        kept: how many places were dealt for those that want an endpoint, by its name.
        room: how many places there are at each endpoint, whoever takes them; as many tokens were taken.
        limits: how many jobs each endpoint may have of us at once.
        learnt: those of which nobody said how many.
        outgrown: which of them had less room by that than was wanted.
    """

    token: UUID
    slots: int
    limits: Mapping[str, int]
    learnt: Collection[str] = ()
    waiting: Counter[str] = field(default_factory=Counter)
    most: Counter[Type] = field(default_factory=Counter)
    draws: list[Endpoint] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    room: Counter[str] = field(default_factory=Counter)
    probes: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    outgrown: set[str] = field(default_factory=set)


class Dealer:
    """Deals places within the allowances and this worker's share."""

    def __init__(self, allowances: Allowances, shares: Shares) -> None:
        """Deal within those."""
        self._allowances = allowances
        self._shares = shares
        self.crowded = False
        """Whether an endpoint had less room than was wanted; whoever asked puts it back."""

    async def fill(
        self,
        connection: Connection,
        deal: Deal,
        doors: Sequence[Door],
        more: int,
        *,
        lease: timedelta,
        now: datetime | None,
    ) -> int:
        """Deal until `more` of a type can be sent than until now; returns how many more can."""
        kind = doors[0].profile.endpoint.type
        target = deal.most[kind] + more
        before = deal.room.total()
        need = min(target, doors[0].waiting) - sum(place.type is kind for place in deal.draws)
        for tier in _tiers(doors):
            need -= await self._draw(connection, deal, tier, need, lease=lease, now=now)
        for door in doors:
            await self._keep(connection, deal, door, target, lease=lease, now=now)
        found = min(more, deal.room.total() - before)
        deal.most[kind] += found
        return found

    async def _draw(
        self,
        connection: Connection,
        deal: Deal,
        tier: Sequence[Door],
        need: int,
        *,
        lease: timedelta,
        now: datetime | None,
    ) -> int:
        """Draw `need` among the endpoints of one priority, as far as they have room; returns how many were drawn."""
        drawn = 0
        for door in tier:
            if drawn < need and await self._probe(connection, deal, door, lease=lease, now=now):
                deal.draws.append(door.profile.endpoint)
                drawn += 1
        while (doors := [door for door in tier if door.is_open and door.endpoint_id not in deal.full]) and (
            drawn < need
        ):
            weights = [door.profile.weight for door in doors]
            chosen = random.choices(doors, weights, k=need - drawn)  # noqa: S311 - spreads load
            left = await self._take(connection, deal, Counter(door.endpoint_id for door in chosen), doors, now=now)
            for door in chosen:
                if left[door.endpoint_id] > 0:
                    left[door.endpoint_id] -= 1
                    deal.draws.append(door.profile.endpoint)
                    drawn += 1
        return drawn

    async def _keep(
        self, connection: Connection, deal: Deal, door: Door, target: int, *, lease: timedelta, now: datetime | None
    ) -> None:
        """Places for those that want this endpoint by name; no more at it than can be sent in all."""
        name = door.profile.endpoint.name
        need = min(min(target, door.wanted) - deal.kept[name], target - deal.room[door.endpoint_id])
        if need <= 0:
            return
        if door.is_open:
            granted = await self._take(connection, deal, Counter({door.endpoint_id: need}), [door], now=now)
            deal.kept[name] += granted[door.endpoint_id]
        elif await self._probe(connection, deal, door, lease=lease, now=now):
            deal.kept[name] += 1

    async def _take(
        self,
        connection: Connection,
        deal: Deal,
        wanted: Counter[str],
        doors: Sequence[Door],
        *,
        now: datetime | None,
    ) -> Counter[str]:
        """Take room and tokens for so many at each endpoint; those that had less are full."""
        room = {door.endpoint_id: self._room(door, deal, wanted[door.endpoint_id]) for door in doors}
        self.crowded |= any(room[endpoint_id] < count for endpoint_id, count in wanted.items())
        granted = Counter(await self._allowances.take(connection, "run", room, now=now))
        deal.full.update(endpoint_id for endpoint_id, count in wanted.items() if granted[endpoint_id] < count)
        deal.room.update(granted)
        return granted

    async def _probe(
        self, connection: Connection, deal: Deal, door: Door, *, lease: timedelta, now: datetime | None
    ) -> bool:
        """One place at an endpoint that half-opens, if no other worker has it, and its jobs leave room for one more."""
        if not door.may_probe or door.endpoint_id in deal.probes:
            return False
        if self._room(door, deal, 1) <= 0:  # whoever was drawn for it could not be sent, nor anywhere else
            self.crowded = True
            return False
        if not await breaker.take_probe(connection, door.endpoint_id, token=deal.token, lease=lease, now=now):
            return False
        granted = await self._allowances.take(connection, "run", {door.endpoint_id: 1}, now=now)
        if not granted.get(door.endpoint_id):
            await breaker.return_probe(connection, door.endpoint_id, token=deal.token)
            return False
        deal.probes.add(door.endpoint_id)
        deal.room[door.endpoint_id] += 1
        return True

    def _room(self, door: Door, deal: Deal, wanted: int) -> int:
        """How many of those that are wanted this endpoint may be dealt besides, whatever its allowance."""
        dealt = deal.room[door.endpoint_id]
        left = capacity.room(deal.limits[door.endpoint_id], jobs=door.in_flight, unseen=door.unseen) - dealt
        if wanted > left:
            deal.outgrown.add(door.endpoint_id)
        if door.endpoint_id in deal.learnt and capacity.has_one_ahead(deal.limits[door.endpoint_id]):
            left = min(left, 1 - dealt)  # one after the other: RunPod is to have first what is not sent ahead
        share = self._shares.room(door.endpoint_id, "run") - dealt
        return max(0, min(wanted, share, left))


def draw_shared(deal: Deal, doors: Sequence[Door]) -> None:
    """Let one type draw places as well that were dealt to others, where its endpoints are theirs, too.

    Who of them stands first is found when they are claimed.
    """
    kind = doors[0].profile.endpoint.type
    drawn = Counter(place.endpoint_id for place in deal.draws if place.type is kind)
    left = Counter({door.endpoint_id: deal.room[door.endpoint_id] - drawn[door.endpoint_id] for door in doors})
    need = doors[0].waiting - drawn.total()
    for tier in _tiers(doors):
        while need > 0 and (able := [door for door in tier if left[door.endpoint_id] > 0]):
            (door,) = random.choices(able, [door.profile.weight for door in able])  # noqa: S311 - spreads load
            left[door.endpoint_id] -= 1
            deal.draws.append(door.profile.endpoint)
            need -= 1
        if any(door.is_open and door.endpoint_id not in deal.full for door in tier):
            break  # who finds no place has a better choice than the next number: there are no more slots
    there = sum(deal.room[endpoint_id] for endpoint_id in {door.endpoint_id for door in doors})
    deal.most[kind] = max(deal.most[kind], min(there, doors[0].waiting + sum(door.wanted for door in doors)))


def _tiers(doors: Sequence[Door]) -> Iterable[list[Door]]:
    """The endpoints of a type, those of the lowest priority number first; none that is out while another is open."""
    others = [door for door in doors if not door.out]
    able = others if any(door.is_open for door in others) else doors
    for priority in sorted({door.profile.priority for door in able}):
        yield [door for door in able if door.profile.priority == priority]
