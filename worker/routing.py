"""Which endpoint the next generations go to: where the breaker admits and the allowance has room.

The lowest priority number comes first, and within it the weights decide; what finds no room there goes to the next
number. Each place that is dealt carries a token of the endpoint's allowance; an endpoint whose breaker half-opens gets
one place, the probe, which one of all workers has.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from shared import sql
from shared.database import Connection
from shared.generations import Generation, Type
from worker import breaker
from worker.allowances import Allowances
from worker.breaker import Change
from worker.endpoints import Endpoints, Profile
from worker.outcomes import NotSent, Sign, Submission
from worker.shares import Shares
from worker.transitions import Endpoint

_SQL = sql.load(__file__)

K = TypeVar("K")
Lane = tuple[Type, str | None]
"""Who waits together: those of a type that go anywhere, and those that want a certain endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An endpoint as it was at the last look."""

    profile: Profile
    breaker: str
    failures: int
    may_probe: bool
    waiting: int
    wanted: int
    in_flight: int | None

    @property
    def endpoint_id(self) -> str:
        """RunPod's id of it."""
        return self.profile.endpoint.endpoint_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """The places for one claim: for those that go anywhere, and those kept for who wants the endpoint by name."""

    token: UUID
    waiting: int = 0
    places: list[Endpoint] = field(default_factory=list)
    kept: list[Endpoint] = field(default_factory=list)
    probes: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)

    @property
    def dealt(self) -> Counter[str]:
        """How many places there are at each endpoint."""
        return Counter(place.endpoint_id for place in (*self.places, *self.kept))


class Router:
    """Deals out places at endpoints to what is claimed next."""

    def __init__(self, endpoints: Endpoints, allowances: Allowances, shares: Shares) -> None:
        """Deal among these, within those."""
        self._endpoints = endpoints
        self._allowances = allowances
        self._shares = shares
        self._registered = False
        self._doors: dict[str, Door] = {}

    def open(self, endpoint_id: str | None) -> bool:
        """Whether an endpoint's breaker was open at the last look."""
        door = self._doors.get(endpoint_id or "")
        return door is not None and door.breaker != "closed"

    async def register(self, connection: Connection) -> None:
        """See to it that every endpoint has its rows; once in a process."""
        if not self._registered:
            await breaker.register(connection, [profile.endpoint for profile in self._endpoints])
            await self._allowances.register(connection, [p.endpoint.endpoint_id for p in self._endpoints])
            self._registered = True

    async def places(
        self, connection: Connection, limit: int, *, token: UUID, lease: timedelta, now: datetime | None = None
    ) -> Deal:
        """Up to `limit` places for what waits, lane by lane; `token` is the claim's."""
        await self.register(connection)
        doors = await self._look(connection, limit, now=now)
        lanes: dict[Lane, int] = {}
        for door in doors:
            lanes[door.profile.endpoint.type, None] = door.waiting
            lanes[door.profile.endpoint.type, door.profile.endpoint.name] = door.wanted
        deal = Deal(token=token, waiting=sum(lanes.values()))
        for lane, need in shared_out(limit, lanes).items():
            left = need
            for tier in _tiers(lane, doors):
                left -= await self._fill(connection, deal, lane, tier, left, lease=lease, now=now)
        return deal

    async def settle(self, connection: Connection, deal: Deal, claimed: Sequence[Generation]) -> list[Change | None]:
        """Give back what the claim did not use; tell of the probes that go out."""
        sent = Counter(g.endpoint_id for g in claimed if g.wanted_endpoint in (None, g.endpoint))
        unused = {endpoint_id: places - sent[endpoint_id] for endpoint_id, places in deal.dealt.items()}
        await self._allowances.give_back(connection, "run", unused)
        changes = []
        for endpoint_id in sorted(deal.probes):
            if sent[endpoint_id]:
                changes.append(await breaker.note_probe(connection, endpoint_id, token=deal.token))
            else:
                await breaker.return_probe(connection, endpoint_id, token=deal.token)
        return changes

    async def heed(
        self, connection: Connection, generation: Generation, outcome: Submission, *, now: datetime | None = None
    ) -> Change | None:
        """Learn from the outcome of a /run. What all is well with is not written down for each."""
        endpoint_id, token = generation.endpoint_id, generation.lease_token
        if endpoint_id is None or token is None:
            return None
        sign = breaker.sign(outcome)
        if isinstance(outcome, NotSent) and sign is Sign.LIMITED:
            await self._allowances.slow_down(connection, "run", {endpoint_id: outcome.wait}, now=now)
        door = self._doors.get(endpoint_id)
        known_well = door is not None and door.breaker == "closed" and door.failures == 0
        if known_well and sign not in (Sign.FAILING, Sign.SHUT):
            return None
        return await breaker.heed(connection, endpoint_id, outcome, token=token, now=now)

    async def patience(
        self, connection: Connection, generation: Generation, wait: timedelta, *, now: datetime | None = None
    ) -> timedelta:
        """How long a generation that was not sent waits: not at all when another endpoint takes it.

        Else until the first endpoint opens, and for its own no less than `wait`.
        """
        own = generation.endpoint_id or ""
        elsewhere = [
            profile.endpoint.endpoint_id
            for profile in self._endpoints.of_type(generation.type)
            if generation.wanted_endpoint is None and profile.endpoint.endpoint_id != own
        ]
        reopenings = await breaker.reopenings(connection, [own, *elsewhere], now=now)
        own_wait = max(wait, reopenings.pop(own, timedelta(0)))
        return min([own_wait, *reopenings.values()])

    async def _look(self, connection: Connection, limit: int, *, now: datetime | None) -> list[Door]:
        told = [
            {
                "type": profile.endpoint.type.value,
                "name": profile.endpoint.name,
                "endpoint_id": profile.endpoint.endpoint_id,
                "max_concurrency": profile.max_concurrency,
            }
            for profile in self._endpoints
        ]
        rows = {row["name"]: row for row in await connection.fetch(_SQL["look"], told, limit, now)}
        doors = [_door(profile, rows[profile.endpoint.name]) for profile in self._endpoints]
        self._doors = {door.endpoint_id: door for door in doors}
        return doors

    async def _fill(
        self,
        connection: Connection,
        deal: Deal,
        lane: Lane,
        tier: Sequence[Door],
        need: int,
        *,
        lease: timedelta,
        now: datetime | None,
    ) -> int:
        """Deal up to `need` places among the endpoints of one priority; returns how many there were."""
        places = deal.places if lane[1] is None else deal.kept
        dealt = 0
        for door in tier:
            if door.may_probe and dealt < need and door.endpoint_id not in deal.probes:
                dealt += await self._probe(connection, deal, door, places, lease=lease, now=now)
        doors = [door for door in tier if door.breaker == "closed" and door.endpoint_id not in deal.full]
        while doors and dealt < need:
            more = await self._draw(connection, deal, doors, need - dealt, now=now)
            places += [door.profile.endpoint for door, count in more for _ in range(count)]
            dealt += sum(count for _, count in more)
            doors = [door for door in doors if door.endpoint_id not in deal.full]
        return dealt

    async def _draw(
        self, connection: Connection, deal: Deal, doors: Sequence[Door], need: int, *, now: datetime | None
    ) -> list[tuple[Door, int]]:
        """Divide `need` among these by weight, as far as each has room; endpoints that had less are full."""
        weights = [door.profile.weight for door in doors]
        chosen = Counter(door.profile.endpoint.name for door in random.choices(doors, weights, k=need))  # noqa: S311 - spreads load
        wanted: Counter[str] = Counter()
        for door in doors:
            wanted[door.endpoint_id] += chosen[door.profile.endpoint.name]
        room = {door.endpoint_id: min(wanted[door.endpoint_id], self._room(door, deal)) for door in doors}
        left = Counter(await self._allowances.take(connection, "run", room, now=now))
        drawn = []
        for door in doors:
            count = min(chosen[door.profile.endpoint.name], left[door.endpoint_id])
            left[door.endpoint_id] -= count
            drawn.append((door, count))
            if count < chosen[door.profile.endpoint.name]:
                deal.full.add(door.endpoint_id)
        return drawn

    async def _probe(
        self,
        connection: Connection,
        deal: Deal,
        door: Door,
        places: list[Endpoint],
        *,
        lease: timedelta,
        now: datetime | None,
    ) -> int:
        """One place at an endpoint that half-opens, if no other worker has it."""
        if not await breaker.take_probe(connection, door.endpoint_id, token=deal.token, lease=lease, now=now):
            return 0
        granted = await self._allowances.take(connection, "run", {door.endpoint_id: 1}, now=now)
        if not granted.get(door.endpoint_id):
            await breaker.return_probe(connection, door.endpoint_id, token=deal.token)
            return 0
        deal.probes.add(door.endpoint_id)
        places.append(door.profile.endpoint)
        return 1

    def _room(self, door: Door, deal: Deal) -> int:
        """How many more this endpoint may be dealt, whatever its allowance."""
        dealt = deal.dealt[door.endpoint_id]
        room = self._shares.room(door.endpoint_id, "run") - dealt
        if door.profile.max_concurrency is not None and door.in_flight is not None:
            room = min(room, door.profile.max_concurrency - door.in_flight - dealt)
        return max(0, room)


def _door(profile: Profile, row: asyncpg.Record) -> Door:
    return Door(
        profile=profile,
        breaker=row["breaker"],
        failures=row["failures"],
        may_probe=row["may_probe"],
        waiting=row["waiting"],
        wanted=row["wanted"],
        in_flight=row["in_flight"],
    )


def _tiers(lane: Lane, doors: Sequence[Door]) -> Iterable[list[Door]]:
    """The endpoints of a lane, those of the lowest priority number first."""
    generation_type, name = lane
    lane_doors = [
        door
        for door in doors
        if door.profile.endpoint.type is generation_type and name in (None, door.profile.endpoint.name)
    ]
    for priority in sorted({door.profile.priority for door in lane_doors}):
        yield [door for door in lane_doors if door.profile.priority == priority]


def shared_out(limit: int, wanted: Mapping[K, int]) -> dict[K, int]:
    """Divide `limit` among those who want some: evenly, and nobody gets more than they want.

    When there is not one for each, chance decides, so that nobody comes away empty every time.
    """
    shares: dict[K, int] = {}
    left = limit
    for number, (key, want) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        part = int(left / (len(wanted) - number) + random.random())  # noqa: S311 - whom a remainder goes to
        shares[key] = min(want, part)
        left -= shares[key]
    return {key: share for key, share in shares.items() if share > 0}
