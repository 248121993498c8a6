"""How time passes in the lines, and how far each has come where it meets others.

A line's clock is where who comes new stands: just before the last one that was sent. At an endpoint that several types
share, their lines are one, and what one is served there passes for time in the others. There a line lags behind its
clock by what other endpoints served of it since it was last served there, by no more than one job of whoever waits, and
less what others were served there since. So who has an endpoint besides is neither before all others there nor after.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import permutations

from shared import sql
from shared.database import Connection
from shared.generations import CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, Type
from worker.transitions import Endpoint, Seat

_SQL = sql.load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """How far a line has gone on `since` it was served at an endpoint, and what `others` were served there since.

    In the lines' time: `CREDIT_IN_LINE` for a credit, divided by the weight of the plan.
    """

    since: int
    others: int

    def lag(self, vcost: int) -> int:
        """How far one that costs so much is behind its line's clock there."""
        return max(0, min(self.since, vcost) - self.others)


def shared_among(endpoints: Iterable[Endpoint], taken: Collection[str]) -> set[str]:
    """Those of the endpoints `taken` at which lines meet."""
    types: dict[str, set[Type]] = {}
    for endpoint in endpoints:
        types.setdefault(endpoint.endpoint_id, set()).add(endpoint.type)
    return {endpoint_id for endpoint_id in taken if len(types.get(endpoint_id, ())) > 1}


async def behind(connection: Connection, endpoint_ids: Collection[str]) -> Mapping[tuple[str, Type], Behind]:
    """By endpoint and type; one that was never served there is not behind."""
    if not endpoint_ids:
        return {}
    rows = await connection.fetch(_SQL["behind"], list(endpoint_ids))
    return {(row["endpoint_id"], Type(row["type"])): Behind(since=row["since"], others=row["others"]) for row in rows}


async def pass_time(
    connection: Connection,
    endpoints: Iterable[Endpoint],
    *,
    claimed: Sequence[Seat] = (),
    in_hand: Collection[str] = (),
    now: datetime | None = None,
) -> None:
    """What was claimed is served, unless it is sent ahead; so is what is `in_hand` at these endpoints.

    In the transaction that claims there (worker/line.py): nobody else does meanwhile. What has been counted once is
    not again.
    """
    told = [{"id": str(seat.id), "ahead": seat.ahead} for seat in claimed]
    here = {*in_hand, *(seat.place.endpoint_id for seat in claimed)}
    meets = {
        (one.endpoint_id, one.type, other.type)
        for one, other in permutations([each for each in endpoints if each.endpoint_id in here], 2)
        if one.endpoint_id == other.endpoint_id and one.type is not other.type
    }
    pairs = [
        {"endpoint_id": endpoint_id, "served": one.value, "other": other.value}
        for endpoint_id, one, other in sorted(meets)
    ]
    price = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS)
    await connection.execute(_SQL["pass_time"], told, list(in_hand), pairs, *price, now)
