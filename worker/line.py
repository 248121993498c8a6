"""Who takes the places that were dealt: whoever stands first in the line of their type, of those that may go there.

Each type has one line, in virtual time (…_twin_fairness.sql). Those that want an endpoint by name wait in a *lane* of
it, so that one whose endpoint is closed holds nobody up. A lane that fell behind the clock meanwhile has no more
claim to what others use, too, than who stands at the clock: they take turns. The lines of types that share an endpoint
are one line there: who stands least ahead of where their own line has come there is first, and what is served of one
type passes for time in the lines of the others.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import asyncpg

from shared import sql
from shared.database import Connection
from shared.generations import Generation, Type
from worker import capacity, transitions
from worker.places import Deal
from worker.transitions import Endpoint, Seat

_SQL = sql.load(__file__)

FEW = 8
"""Of how many places at an endpoint it is looked at closely who has them."""


async def claim(
    connection: Connection,
    deal: Deal,
    *,
    endpoints: Sequence[Endpoint],
    lease: timedelta,
    now: datetime | None = None,
) -> list[Generation]:
    """reserved → submitting for those that stand first, as far as there are places; `endpoints`: all that are here."""
    here = [{"type": endpoint.type.value, "name": endpoint.name} for endpoint in endpoints]
    async with connection.transaction():
        there = await count(connection, sorted(deal.room), learnt=deal.learnt, now=now) if deal.room else {}
        lanes = _lanes(deal, endpoints)
        room = _room(deal, there)
        contended = _contended(deal, room)
        waiting = await connection.fetch(_SQL["heads"], lanes, here, now, contended) if lanes else []
        seats = _seats(waiting, deal, room, endpoints)
        if not seats:
            return []
        jobs = Counter({endpoint_id: ours.jobs - ours.unseen for endpoint_id, ours in there.items()})
        seats = [replace(seat, ahead=_is_ahead(deal, jobs, seat)) for seat in seats]
        return await transitions.claim_reserved(
            connection, lease_token=deal.token, lease=lease, seats=seats, meets=_meets(seats, endpoints), now=now
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What an endpoint has of us.

    Attributes:
        jobs: by our own count: what is being sent, waits or runs there.
        unseen: how many of them have ended without our knowing, by what the endpoint said lately.
    """

    jobs: int
    unseen: int


async def in_flight(
    connection: Connection, endpoint_ids: Collection[str], *, learnt: Collection[str], now: datetime | None = None
) -> dict[str, Ours]:
    """What each endpoint has of us; only of those whose limit is `learnt` anything can be unseen."""
    rows = await connection.fetch(_SQL["in_flight"], list(endpoint_ids), list(learnt), now, capacity.FRESH)
    return {row["endpoint_id"]: Ours(jobs=row["jobs"], unseen=row["unseen"]) for row in rows}


async def lock(connection: Connection, endpoint_ids: Collection[str]) -> None:
    """Nobody else claims at these, or looks what to recall, until the end of the transaction, which is the caller's."""
    await connection.execute(_SQL["lock_endpoints"], list(endpoint_ids))


async def count(
    connection: Connection, endpoint_ids: Collection[str], *, learnt: Collection[str], now: datetime | None = None
) -> dict[str, Ours]:
    """What each has of us, while nobody else claims there until the end of the transaction, which is the caller's."""
    await lock(connection, endpoint_ids)
    return await in_flight(connection, endpoint_ids, learnt=learnt, now=now)


def _room(deal: Deal, there: Mapping[str, Ours]) -> Counter[str]:
    """The places at each endpoint, as far as its jobs leave room."""
    room = Counter(deal.room)
    for endpoint_id, ours in there.items():
        left = capacity.room(deal.limits[endpoint_id], jobs=ours.jobs, unseen=ours.unseen)
        room[endpoint_id] = min(room[endpoint_id], left)
    return room


def _is_ahead(deal: Deal, jobs: Counter[str], seat: Seat) -> bool:
    """Whether it will wait there for the job in hand; `jobs`: what is there, and this besides."""
    endpoint_id = seat.place.endpoint_id
    jobs[endpoint_id] += 1
    return endpoint_id in deal.learnt and capacity.has_one_ahead(deal.limits[endpoint_id]) and jobs[endpoint_id] > 1


def _lanes(deal: Deal, endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """The lanes that have places, and how many of each may be sent at most."""
    draws = Counter(place.type for place in deal.draws)
    anywhere = [(generation_type, "", count) for generation_type, count in draws.items()]
    wanting = [
        (place.type, place.name, min(deal.most[place.type], deal.room[place.endpoint_id]))
        for place in endpoints
        if deal.room[place.endpoint_id]
    ]
    return [
        {"type": generation_type.value, "name": name, "most": most}
        for generation_type, name, most in (*anywhere, *wanting)
        if most > 0
    ]


def _contended(deal: Deal, room: Mapping[str, int]) -> list[str]:
    """The endpoints that have a few places, and not for everybody who waits for them."""
    return sorted(
        endpoint_id for endpoint_id, count in room.items() if 0 < count <= FEW and count < deal.waiting[endpoint_id]
    )


def _meets(seats: Iterable[Seat], endpoints: Sequence[Endpoint]) -> list[tuple[str, Type, Type]]:
    """Which lines meet at the endpoints of these, each with each."""
    taken = {seat.place.endpoint_id for seat in seats}
    return sorted(
        {
            (one.endpoint_id, one.type, other.type)
            for one, other in permutations(endpoints, 2)
            if one.endpoint_id == other.endpoint_id and one.endpoint_id in taken and one.type is not other.type
        }
    )


def _seats(
    waiting: Iterable[asyncpg.Record], deal: Deal, room: Counter[str], endpoints: Sequence[Endpoint]
) -> list[Seat]:
    """Who goes where: in the order in which they stand, each takes a place that it may have."""
    left, draws = Counter(deal.most), list(deal.draws)
    seats: list[Seat] = []
    for row in waiting:
        if len(seats) == deal.slots:
            break
        generation_type = Type(row["type"])
        may_take = [
            place
            for place in (endpoints if row["lane"] else draws)
            if place.type is generation_type and row["lane"] in ("", place.name) and room[place.endpoint_id] > 0
        ]
        if left[generation_type] <= 0 or not may_take:
            continue
        place = may_take[0]
        if not row["lane"]:
            draws.remove(place)
        room[place.endpoint_id] -= 1
        left[generation_type] -= 1
        seats.append(Seat(id=row["id"], place=place))
    return seats
