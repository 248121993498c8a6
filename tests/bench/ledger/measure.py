"""The order of events of one run: the cells, what a cycle weighs, midnight, and a long history."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared import ledger
from shared.database import Connection
from shared.verify import verify
from tests.bench import machine
from tests.bench.ground import Ground, open_ground
from tests.bench.ledger import cells, history, midnight, pgledger
from tests.bench.ledger.callers import Order
from tests.bench.ledger.cells import Cell
from tests.bench.ledger.crew import send
from tests.bench.ledger.history import Reading, Verification, Written
from tests.bench.ledger.midnight import Midnight
from tests.bench.ledger.options import Options
from tests.bench.ledger.weight import Weight, weigh
from tests.bench.options import BenchFailed
from tests.bench.run import Say

WEIGHED_CALLERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one run found.

    Attributes:
        pgledger: the start of the SHA-256 of the pgledger.sql that was measured; None when none was given.
        at_a_time: looking up a balance at some moment of the history.
        verification: of the whole history, from its first entry on.
    """

    machine: Mapping[str, Any]
    options: Options
    pgledger: str | None
    cells: Sequence[Cell]
    weight: Weight
    midnight: Midnight
    history: Written
    at_a_time: Reading
    verification: Verification


def measure(options: Options, folder: Path, *, say: Say) -> Measured:
    """Start Postgres in `folder`, measure, stop it. BenchFailed when a part did not do its work.

    Each part's figures are said when it is over: a run of an hour that is ended has not been for nothing.
    """
    sql = None if options.pgledger is None else pgledger.read(options.pgledger)
    with open_ground(folder) as ground:
        described = asyncio.run(machine.describe(ground))
        database_url = asyncio.run(cells.prepare(ground, options.accounts))
        say(f"opened {options.accounts} accounts")
        side_by_side = _cells(ground, database_url, options, sql, say)
        weight = _weight(ground, database_url, options)
        say(f"weighed: {weight}")
        first_uses = midnight.measure(ground, people=options.people)
        say(f"midnight: {first_uses}")
        written = history.build(ground.databases, entries=options.entries)
        say(f"wrote a history: {written.written}")
        at_a_time = history.read(written, _books_at, looks=options.looks)
        say(f"looked back: {at_a_time}")
        verification = history.verify(written, _verify)
        say(f"verified it: {verification}")
    return Measured(
        machine=described,
        options=options,
        pgledger=None if sql is None else pgledger.version(sql),
        cells=side_by_side,
        weight=weight,
        midnight=first_uses,
        history=written.written,
        at_a_time=at_a_time,
        verification=verification,
    )


def _cells(ground: Ground, database_url: str, options: Options, sql: Sequence[str] | None, say: Say) -> list[Cell]:
    sides = cells.sides(ground, database_url, options.size)
    if sql is not None:
        sides |= pgledger.sides(ground, sql, options.size)
    say(f"in turns: {'; '.join(sides)}")
    return cells.in_turns(sides, options.size, say)


def _weight(ground: Ground, database_url: str, options: Options) -> Weight:
    order = Order(
        database_url=database_url,
        callers=WEIGHED_CALLERS,
        first=0,
        last=options.accounts,
        crowd="uniform",
        seconds=options.weigh_seconds,
    )
    return weigh(database_url, lambda: sum(len(each.cycles) for each in send(order, ground.folder)))


async def _books_at(connection: Connection, user_id: str, moment: datetime) -> object:
    return await ledger.books_at(connection, user_id=user_id, at=moment)


async def _verify(connection: Connection) -> None:
    async for finding in verify(connection, alone=True):
        raise BenchFailed(f"the history is not whole: {finding} {finding.detail}")
