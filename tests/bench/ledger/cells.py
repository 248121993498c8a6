"""Reserve and capture, side by side: for every number of callers and every crowd, each side in turn, in rounds."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg
import orjson

from tests.bench import pgbench
from tests.bench.figures import Spread, ratios
from tests.bench.ground import Ground
from tests.bench.ledger.callers import PRICE, ZIPF_EXPONENT, Crowd, Order
from tests.bench.ledger.crew import Sample, cycles_per_second
from tests.bench.people import in_parts
from tests.bench.run import Say

CYCLE = Path(__file__).with_name("cycle.sql").read_text(encoding="utf-8")
OURS, POOLED, PGBENCH = "ours", "ours, pooled", "pgbench"

# Numbers as callers.py draws them.
_PICK: Mapping[Crowd, str] = {
    "uniform": "\\set n random(0, :accounts - 1)\n",
    "zipf": f"\\set n random_zipfian(1, :accounts, {ZIPF_EXPONENT}) - 1\n",
    "hot": "\\set n 0\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of it.

    Attributes:
        accounts: how many people there are.
        callers: how many call at once, one number after the other.
        crowds: whom they call for: everybody alike, few people mostly, or one person.
        seconds: how long each side runs in one round.
        warm_up: the first of these seconds, in which connections open and plans are made, are not counted.
        rounds: how often it is each side's turn.
    """

    accounts: int
    callers: Sequence[int]
    crowds: Sequence[Crowd]
    seconds: int
    warm_up: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of callers and one crowd: a sample of each side for each round."""

    callers: int
    crowd: Crowd
    samples: Mapping[str, list[Sample]] = field(default_factory=dict)

    def per_second(self, side: str) -> Spread:
        """Cycles a second of a side."""
        return Spread.of(self._rates(side))

    def ratio(self, side: str, other: str) -> Spread:
        """One side's cycles a second divided by the other's, round by round."""
        return ratios(self._rates(side), self._rates(other))

    def _rates(self, side: str) -> list[float]:
        return [sample.per_second for sample in self.samples[side]]


Side = Callable[[int, Crowd], Sample]

_FIRST_CYCLES = """
SELECT count(ledger_capture(
    (ledger_reserve('user_bench_' || n, 'reserve:' || g, g, 1, now() + interval '2 days', $3, g) ->> 'hold_id')::uuid,
    'settle:' || g, 1
)) FROM (SELECT n, gen_random_uuid() AS g FROM generate_series($1::bigint, $2::bigint - 1) AS n) AS first
"""


async def prepare(ground: Ground, accounts: int) -> str:
    """Make a database of people who have all been here before; return its URL.

    Plans made for empty tables would be kept by a connection, and a first hold writes what later ones find there.
    """
    url = await ground.database(accounts=accounts)
    connection = await asyncpg.connect(url)
    try:
        for part in in_parts(0, accounts):
            await connection.fetchval(_FIRST_CYCLES, *part, orjson.dumps(PRICE).decode())
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return url


def sides(ground: Ground, database_url: str, size: Size) -> dict[str, Side]:
    """Our own: the product's calls, and pgbench's of the same functions where there is a pgbench."""

    def ours(callers: int, crowd: Crowd, *, pooled: bool) -> Sample:
        order = Order(
            database_url=database_url,
            callers=callers,
            first=0,
            last=size.accounts,
            crowd=crowd,
            seconds=size.seconds,
            pooled=pooled,
        )
        return cycles_per_second(order, ground.folder, warm_up=size.warm_up)

    found: dict[str, Side] = {POOLED: partial(ours, pooled=True), OURS: partial(ours, pooled=False)}
    program = pgbench.find(ground.server.cluster.programs)
    if program is not None:
        found[PGBENCH] = by_pgbench(program, database_url, CYCLE, size, price=orjson.dumps(PRICE).decode())
    return found


def by_pgbench(program: Path, database_url: str, script: str, size: Size, **variables: str) -> Side:
    """A side that runs a script, which finds the person's number in :n."""

    def side(callers: int, crowd: Crowd) -> Sample:
        log = pgbench.run(
            program,
            database_url,
            _PICK[crowd] + script,
            clients=callers,
            threads=min(callers, os.cpu_count() or 1),
            seconds=size.seconds,
            variables={"accounts": str(size.accounts), **variables},
        )
        return Sample.of(log.transactions, log.began_at + size.warm_up, log.ended_at)

    return side


def in_turns(found: Mapping[str, Side], size: Size, say: Say) -> list[Cell]:
    """Let each side have its turn in every cell, and all cells again in every round.

    Sides that are compared follow each other at once, and change places from round to round.
    """
    cells = [Cell(callers, crowd, {name: [] for name in found}) for callers in size.callers for crowd in size.crowds]
    for number in range(size.rounds):
        order = list(found.items())[:: -1 if number % 2 else 1]
        for cell in cells:
            for name, side in order:
                cell.samples[name].append(side(cell.callers, cell.crowd))
        say(f"round {number + 1} of {size.rounds}, cycles/s: {'; '.join(map(_newest, cells))}")
    return cells


def _newest(cell: Cell) -> str:
    """What the last round found."""
    rates = ", ".join(f"{name} {samples[-1].per_second:.0f}" for name, samples in cell.samples.items())
    return f"{cell.callers} {cell.crowd} {rates}"
