"""Generations put in flight by the thousand, straight into the database, with their money.

The API takes some sixty submits a second on two cores, so ten thousand would take three minutes before anything is
measured. A hold is made by `ledger_reserve` for each; row, attempt and first transition are written in bulk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from shared import pricing, sql
from shared.costs import cost
from shared.database import prepare_connection
from shared.generations import Type
from tests.bench.inflight.gateway import ENDPOINT
from tests.bench.options import BenchFailed
from tests.bench.people import account

SQL = sql.load(__file__)
PEOPLE = 500


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that runs already: for how long, and in how many seconds it is asked about next."""

    generation_id: UUID
    remote_id: str
    ran_seconds: float
    due_in: float


@dataclass(frozen=True, slots=True)
class InLine:
    """A generation that may be sent in so many seconds, and will run for so many."""

    due_in: float
    runs_seconds: float


async def open_connection(database_url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection that reads JSON as the product does. The caller closes it."""
    connection = await asyncpg.connect(database_url)
    await prepare_connection(connection)
    return connection


async def seed(database_url: str, *, in_flight: Sequence[InFlight], in_line: Sequence[InLine]) -> None:
    """Write them all, in one transaction. BenchFailed when a hold is refused."""
    connection = await open_connection(database_url)
    try:
        async with connection.transaction():
            price = await pricing.in_force(connection, Type.TEXT)
            agreed = cost(price, batch_size=1)
            ids = [*(job.generation_id for job in in_flight), *(uuid4() for _ in in_line)]
            holds = [uuid4() for _ in ids]
            people = [account(number % PEOPLE) for number in range(len(ids))]
            held = await connection.fetchval(SQL["hold"], ids, holds, people, agreed.total, agreed.as_snapshot())
            if held != len(ids):
                raise BenchFailed(f"of {len(ids)} holds {held} were granted")
            terms = (price.version, agreed.total)
            count = len(in_flight)
            remote = [job.remote_id for job in in_flight]
            ran, due = [job.ran_seconds for job in in_flight], [job.due_in for job in in_flight]
            flying = (ids[:count], holds[:count], people[:count])
            await connection.execute(SQL["put_in_flight"], *flying, remote, ran, due, *terms, ENDPOINT)
            await connection.execute(SQL["put_attempts"])
            waiting = (ids[count:], holds[count:], people[count:])
            due, runs = [job.due_in for job in in_line], [job.runs_seconds for job in in_line]
            await connection.execute(SQL["put_in_line"], *waiting, due, runs, *terms)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
