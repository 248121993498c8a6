"""One round: the load sends its submits to a target, and the round is over when all of them are settled in Postgres."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import asyncpg
import httpx
import orjson

from tests.bench import cpu
from tests.bench.figures import percentile
from tests.bench.load import Order, Outcome
from tests.bench.options import BenchFailed
from tests.bench.programs import run_alone
from tests.bench.stack import Stack, Target

LONGEST_ROUND_SECONDS = 120
_LOOK_SECONDS = 0.05

_OPEN = """
SELECT count(*) FROM generations WHERE state IN ('reserved', 'submitting', 'submitted', 'running', 'finishing')
"""
_SETTLED = """
SELECT
    count(*) AS settled,
    count(*) FILTER (WHERE state = 'completed') AS completed,
    extract(EPOCH FROM max(finished_at))::double precision AS ended_at,
    array_agg(extract(EPOCH FROM finished_at - created_at)::double precision * 1000) AS latencies_ms
FROM generations WHERE created_at >= to_timestamp($1)
"""
# The straight way is five transitions; a sixth is a detour: sent again, waited out, or held back by our own rate limit.
_DETOURS = """
SELECT coalesce(sum(versions - 5), 0)::bigint FROM (
    SELECT count(*) AS versions FROM generation_transitions AS t
    INNER JOIN generations AS g ON t.generation_id = g.id
    WHERE g.created_at >= to_timestamp($1)
    GROUP BY g.id
) AS counted WHERE versions > 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round came to.

    Attributes:
        per_second: generations, from the first submit sent to the last one settled.
        submit_ms: p50 and p95 of a submit, as the person waits for it.
        settle_ms: p50 and p95 from accepted to settled.
        cpu_seconds: by process, while the round lasted; None when unknown.
        detours: transitions beyond the straight way; anything but 0 disturbed the measurement.
    """

    target: str
    people: int
    count: int
    seconds: float
    per_second: float
    submit_ms: tuple[float, float]
    settle_ms: tuple[float, float]
    cpu_seconds: Mapping[str, float] | None
    detours: int


def run_round(stack: Stack, target: Target, *, count: int, people: int, through_door: bool = True) -> Round:
    """Run one round. BenchFailed when a submit is refused or not all are settled in time."""
    order = Order(target.url, target.bearers[:people], count)
    before = cpu.used(target.processes)
    outcome = _load(stack, order) if through_door else _ask_to_be_the_people(order)
    settled = asyncio.run(_wait_until_settled(target.database_url, outcome.began_at, count))
    used = cpu.spent(before, cpu.used(target.processes))
    if used is not None and through_door:
        used = {**used, "load": outcome.cpu_seconds}
    seconds = settled.ended_at - outcome.began_at
    return Round(
        target=target.name if through_door else f"{target.name}, no door",
        people=people,
        count=count,
        seconds=seconds,
        per_second=count / seconds,
        submit_ms=_p50_p95(outcome.latencies_ms),
        settle_ms=_p50_p95(settled.latencies_ms),
        cpu_seconds=used,
        detours=settled.detours,
    )


def _p50_p95(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 0.5), percentile(values, 0.95)


def _load(stack: Stack, order: Order) -> Outcome:
    written = stack.folder / "order.json"
    written.write_bytes(orjson.dumps(asdict(order)))
    argv = [sys.executable, "-m", "tests.bench.load", str(written)]
    said = run_alone(argv, seconds=LONGEST_ROUND_SECONDS, log=stack.folder / "load.log")
    return Outcome(**orjson.loads(said))


def _ask_to_be_the_people(order: Order) -> Outcome:
    reply = httpx.post(
        f"{order.url}/people", content=orjson.dumps(asdict(order)), timeout=LONGEST_ROUND_SECONDS, trust_env=False
    )
    if reply.status_code != httpx.codes.OK:
        raise BenchFailed(f"the bare script stopped: {reply.text[:300]}")
    return Outcome(**reply.json())


@dataclass(frozen=True, slots=True)
class _Settled:
    ended_at: float
    latencies_ms: Sequence[float]
    detours: int


async def _wait_until_settled(database_url: str, began_at: float, count: int) -> _Settled:
    connection = await asyncpg.connect(database_url)
    try:
        deadline = time.monotonic() + LONGEST_ROUND_SECONDS
        while still_open := await connection.fetchval(_OPEN):
            if time.monotonic() > deadline:
                raise BenchFailed(f"{still_open} generations were not settled within {LONGEST_ROUND_SECONDS} s")
            await asyncio.sleep(_LOOK_SECONDS)
        row = await connection.fetchrow(_SETTLED, began_at)
        if row is None or row["completed"] != count:
            raise BenchFailed(f"of {count} generations {row and row['completed']} were completed")
        return _Settled(row["ended_at"], row["latencies_ms"], await connection.fetchval(_DETOURS, began_at))
    finally:
        await connection.close()
