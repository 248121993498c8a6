"""Which endpoint the next generations go to: what the endpoints are like, how the slots are shared, what was learnt."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from shared import sql
from shared.database import Connection
from shared.generations import Generation, Type
from worker import breaker, capacity, line
from worker.allowances import REFILL, Allowances
from worker.breaker import Change
from worker.endpoints import Endpoints, Profile
from worker.outcomes import NotSent, Sign, Submission
from worker.places import Deal, Dealer, Door, draw_shared
from worker.shares import Shares

_SQL = sql.load(__file__)

K = TypeVar("K")


class Router:
    """Deals out places at endpoints to what is claimed next."""

    def __init__(self, endpoints: Endpoints, allowances: Allowances, shares: Shares) -> None:
        """Deal among these, within those."""
        self._endpoints = endpoints
        self._allowances = allowances
        self._dealer = Dealer(allowances, shares)
        self._said = endpoints.said()
        self._learnt = {profile.endpoint.endpoint_id for profile in endpoints} - self._said.keys()
        self._registered = False
        self._doors: dict[str, Door] = {}
        self._full: dict[str, int] = {}
        self.out: dict[str, list[Type]] = {}
        """The endpoints that were out of machines at the last look, and the types that another endpoint takes."""

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

    def again(self) -> timedelta | None:
        """How soon to come again when a claim came back short: soon, when what kept it short passes by itself."""
        crowded, self._dealer.crowded = self._dealer.crowded, False
        return REFILL if crowded else self._allowances.again("run")

    def take_full(self) -> dict[str, int]:
        """The endpoints whose learnt limit kept somebody waiting at the last look, with it; once."""
        full, self._full = self._full, {}
        return full

    async def places(
        self, connection: Connection, limit: int, *, token: UUID, lease: timedelta, now: datetime | None = None
    ) -> Deal:
        """Up to `limit` places for what waits; `token` is the claim's. What one type cannot use goes to the others."""
        await self.register(connection)
        types: dict[Type, list[Door]] = {}
        doors = await self._look(connection, max(limit, line.FEW + 1), now=now)
        for door in doors:
            types.setdefault(door.profile.endpoint.type, []).append(door)
        deal = Deal(
            token=token,
            slots=limit,
            limits={door.endpoint_id: door.limit for door in doors},
            learnt=self._learnt,
        )
        for door in doors:
            deal.waiting[door.endpoint_id] += door.waiting + door.wanted
        wants = {kind: of[0].waiting + sum(door.wanted for door in of) for kind, of in types.items()}
        left = limit
        while shares := shared_out(left, wants):
            for kind, share in random.sample(list(shares.items()), len(shares)):
                found = await self._dealer.fill(connection, deal, types[kind], share, lease=lease, now=now)
                wants[kind] = wants[kind] - found if found == share else 0
                left -= found
        for of in types.values():
            draw_shared(deal, of)
        self._full = {endpoint_id: deal.limits[endpoint_id] for endpoint_id in sorted(deal.outgrown & self._learnt)}
        if self._full:
            await connection.execute(_SQL["hurry"], list(self._full), capacity.SOON, capacity.SETTLED, now)
        return deal

    async def settle(self, connection: Connection, deal: Deal, claimed: Sequence[Generation]) -> list[Change | None]:
        """Give back what the claim did not use; tell of the probes that go out."""
        sent = Counter(g.endpoint_id for g in claimed if g.wanted_endpoint in (None, g.endpoint))
        unused = {endpoint_id: places - sent[endpoint_id] for endpoint_id, places in deal.room.items()}
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
        failed = sign in (Sign.FAILING, Sign.SHUT)
        if known_well and not failed:
            return None
        if failed and door is not None:  # until the next look: a success of the same claim ends the row of failures
            self._doors[endpoint_id] = replace(door, failures=door.failures + 1)
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
            }
            for profile in self._endpoints
        ]
        rows = {row["name"]: row for row in await connection.fetch(_SQL["look"], told, limit, now, capacity.FRESH)}
        there = {profile.endpoint.endpoint_id for profile in self._endpoints}
        ours = await line.in_flight(connection, there, learnt=self._learnt, now=now)
        doors = [
            self._door(profile, rows[profile.endpoint.name], ours[profile.endpoint.endpoint_id])
            for profile in self._endpoints
        ]
        self._doors = {door.endpoint_id: door for door in doors}
        elsewhere = {door.profile.endpoint.type for door in doors if door.is_open and not door.out}
        self.out = {door.endpoint_id: sorted(elsewhere) for door in doors if door.out and elsewhere}
        return doors

    def _door(self, profile: Profile, row: asyncpg.Record, ours: line.Ours) -> Door:
        return Door(
            profile=profile,
            breaker=row["breaker"],
            failures=row["failures"],
            may_probe=row["may_probe"],
            waiting=row["waiting"],
            wanted=row["wanted"],
            in_flight=ours.jobs,
            unseen=ours.unseen,
            out=bool(row["is_out"]),
            limit=self._said.get(profile.endpoint.endpoint_id) or row["learnt_limit"] or capacity.UNLEARNT,
        )


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
