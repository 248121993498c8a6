"""Midnight: everybody's first reserve of a day at once, which writes off yesterday's credits and gives today's."""

import asyncio
import os
from dataclasses import dataclass
from itertools import pairwise

import asyncpg

from tests.bench.ground import Ground
from tests.bench.ledger.callers import Order
from tests.bench.ledger.crew import Sample, send
from tests.bench.options import BenchFailed
from tests.bench.people import in_parts

CALLERS = 64
DAILY_CREDITS = 50
# Slower than that is a failure, not a figure.
_LEAST_PER_SECOND = 50

_PLAN = "INSERT INTO credit_plans (plan, daily_credits) VALUES ('bench', $1)"
# Yesterday they came as well.
_OPEN = """
SELECT count(ledger_open_account(p_user_id => 'user_bench_' || n, p_plan => 'bench')),
    count(ledger_refresh('user_bench_' || n, now() - interval '1 day'))
FROM generate_series($1::bigint, $2::bigint - 1) AS n
"""
_GRANTED = "SELECT count(*) FROM credit_buckets WHERE kind = 'daily' AND created_at > now() - interval '12 hours'"


@dataclass(frozen=True, slots=True)
class Midnight:
    """So many people's first uses, by so many callers: how many a second, and p50 and p99 in ms of one."""

    people: int
    callers: int
    per_second: float
    p50_p99_ms: tuple[float, float]


def measure(ground: Ground, *, people: int, callers: int = CALLERS) -> Midnight:
    """Open the accounts, yesterday, and let everybody come at once. BenchFailed unless each was granted once."""
    url = asyncio.run(_prepare(ground, people))
    order = Order(
        database_url=url, callers=callers, first=0, last=people, crowd=None, seconds=people / _LEAST_PER_SECOND
    )
    outcomes = send(order, ground.folder)
    granted = asyncio.run(_granted(url))
    if granted != people:
        raise BenchFailed(f"{people} people came, and {granted} of them were given the day's credits")
    uses = [cycle for each in outcomes for cycle in each.cycles]
    began, ended = min(each.began_at for each in outcomes), max(each.ended_at for each in outcomes)
    sample = Sample.of(uses, began, ended)
    return Midnight(people, callers, sample.per_second, sample.p50_p99_ms[0])


async def _prepare(ground: Ground, people: int) -> str:
    url = ground.databases.url(await ground.databases.create())
    count = os.cpu_count() or 1
    async with asyncpg.create_pool(url, min_size=0, max_size=count) as pool:
        await pool.execute(_PLAN, DAILY_CREDITS)
        bounds = [people * number // count for number in range(count + 1)]
        await asyncio.gather(*(_open(pool, first, last) for first, last in pairwise(bounds)))
        await pool.execute("VACUUM ANALYZE")
    return url


async def _open(pool: "asyncpg.Pool[asyncpg.Record]", first: int, last: int) -> None:
    for part in in_parts(first, last):
        await pool.fetchrow(_OPEN, *part)


async def _granted(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        granted: int = await connection.fetchval(_GRANTED)
    finally:
        await connection.close()
    return granted
