"""Who takes the places that were dealt: whoever stands first in the line of their type, of those that may go there.

Each type has one line, in virtual time (…_twin_fairness.sql). Those that want an endpoint by name wait in a *lane* of
it, so that one whose endpoint is closed holds nobody up. A lane that fell behind the clock meanwhile has no more
claim to what others use, too, than who stands at the clock: whoever had a place there comes after who had none
(worker/lanes.py). The lines of types that share an endpoint are one line there: who stands least ahead of where their
own line has come there is first (worker/line_time.py).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

import asyncpg

from shared import sql
from shared.database import Connection
from shared.generations import CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, Generation, Type
from worker import capacity, lanes, line_time, transitions
from worker.lanes import Lane
from worker.line_time import Behind
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
    here = [{"type": each.type.value, "name": each.name, "endpoint_id": each.endpoint_id} for each in endpoints]
    async with connection.transaction():
        there = await count(connection, sorted(deal.room), learnt=deal.learnt, now=now) if deal.room else {}
        wanted = _lanes(deal, endpoints)
        if not wanted:
            return []
        room = _room(deal, there)
        jobs = Counter({endpoint_id: ours.jobs - ours.unseen for endpoint_id, ours in there.items()})
        in_hand = sorted(id_ for id_ in room if room[id_] > 0 and jobs[id_] > 0 and _has_one_ahead(deal, id_))
        if in_hand:
            await line_time.pass_time(connection, endpoints, in_hand=in_hand, now=now)
        shared = line_time.shared_among(endpoints, [id_ for id_ in room if room[id_] > 0])
        price = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS)
        waiting = await connection.fetch(_SQL["heads"], wanted, here, now, _contended(deal, room), bool(shared), *price)
        behind = await line_time.behind(connection, shared)
        seats = [
            replace(seat, ahead=_is_ahead(deal, jobs, seat)) for seat in _seats(waiting, deal, room, endpoints, behind)
        ]
        if not seats:
            return []
        claimed = await transitions.claim_reserved(
            connection, lease_token=deal.token, lease=lease, seats=seats, now=now
        )
        await line_time.pass_time(connection, endpoints, claimed=seats, now=now)
        return claimed


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
    return _has_one_ahead(deal, endpoint_id) and jobs[endpoint_id] > 1


def _has_one_ahead(deal: Deal, endpoint_id: str) -> bool:
    """Whether one waits there for the job in hand."""
    return endpoint_id in deal.learnt and capacity.has_one_ahead(deal.limits[endpoint_id])


def _lanes(deal: Deal, endpoints: Sequence[Endpoint]) -> list[dict[str, Any]]:
    """The lanes that have places, and how many of each may be sent at most."""
    draws = Counter(place.type for place in deal.draws)
    anywhere = [(generation_type, "", "", count) for generation_type, count in draws.items()]
    wanting = [
        (place.type, place.name, place.endpoint_id, min(deal.most[place.type], deal.room[place.endpoint_id]))
        for place in endpoints
        if deal.room[place.endpoint_id]
    ]
    return [
        {"type": generation_type.value, "name": name, "endpoint_id": endpoint_id, "most": most}
        for generation_type, name, endpoint_id, most in (*anywhere, *wanting)
        if most > 0
    ]


def _contended(deal: Deal, room: Mapping[str, int]) -> list[str]:
    """The endpoints that have a few places, and not for everybody who waits for them."""
    return sorted(
        endpoint_id for endpoint_id, count in room.items() if 0 < count <= FEW and count < deal.waiting[endpoint_id]
    )


def _seats(
    waiting: Iterable[asyncpg.Record],
    deal: Deal,
    room: Counter[str],
    endpoints: Sequence[Endpoint],
    behind: Mapping[tuple[str, Type], Behind],
) -> list[Seat]:
    """Who goes where: of those who are next in their lanes, time and again whoever stands least ahead at a place."""
    left, draws = Counter(deal.most), list(deal.draws)
    found = lanes.lanes(waiting)
    seats: list[Seat] = []
    while len(seats) < deal.slots:
        able = [
            (_stands(behind, lane, row, place), row, lane, place)
            for (kind, name), lane in found.items()
            if left[kind] > 0
            for place in _may_take(endpoints if name else draws, room, kind, name)
            if (row := lane.first(place.endpoint_id))
        ]
        if not able:
            break
        _, row, lane, place = min(able, key=itemgetter(0))
        if not row["lane"]:
            draws.remove(place)
        room[place.endpoint_id] -= 1
        left[place.type] -= 1
        lane.taken.add(row["id"])
        seats.append(Seat(id=row["id"], place=place))
    return seats


def _may_take(places: Iterable[Endpoint], room: Counter[str], kind: Type, name: str) -> Iterator[Endpoint]:
    """Each endpoint that has room for the next of a lane, once; in the order in which they were drawn."""
    seen: set[str] = set()
    for place in places:
        if (
            place.type is kind
            and name in ("", place.name)
            and room[place.endpoint_id] > 0
            and place.endpoint_id not in seen
        ):
            seen.add(place.endpoint_id)
            yield place


def _stands(
    behind: Mapping[tuple[str, Type], Behind], lane: Lane, row: asyncpg.Record, place: Endpoint
) -> tuple[int, int, int, int]:
    """How far somebody stands ahead at a place; of those that stand alike, who had theirs the longest ago.

    Lanes take turns, and whose is first, chance decides, so that one place goes now to one and now to the other.
    """
    ahead, there = lanes.ahead(row, place.endpoint_id), behind.get((place.endpoint_id, place.type))
    if ahead and there:
        ahead += there.lag(row["vcost"])
    return ahead, lanes.had(row, place.endpoint_id), len(lane.taken), row["chance"]
