"""Generations put in flight by the thousand, straight into the database, with their money.

The API takes some sixty submits a second on two cores, so ten thousand would take three minutes before anything is
measured. The holds are made by `ledger_reserve`, once for all flights: each has a copy of the database in which they
are. Row, attempt and first transition are written in bulk. Generations are numbered; their ids follow from that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import asyncpg

from shared import pricing, sql
from shared.costs import Cost, cost
from shared.database import Connection, prepare_connection
from shared.generations import Type
from tests.bench.ground import Ground
from tests.bench.inflight.gateway import ENDPOINT
from tests.bench.options import BenchFailed
from tests.bench.people import account

SQL = sql.load(__file__)
PEOPLE = 500


@dataclass(frozen=True, slots=True)
class InFlight:
    """A job that runs already: for how long, and in how many seconds it is asked about next."""

    number: int
    ran_seconds: float
    due_in: float

    @property
    def remote_id(self) -> str:
        """RunPod's id of it."""
        return f"{generation_id(self.number)}-u1"


@dataclass(frozen=True, slots=True)
class InLine:
    """A generation that may be sent in so many seconds, and will run for so many."""

    due_in: float
    runs_seconds: float


def generation_id(number: int) -> UUID:
    """Of the generation of this number."""
    return uuid5(NAMESPACE_OID, f"generation {number}")


def _hold_id(number: int) -> UUID:
    return uuid5(NAMESPACE_OID, f"hold {number}")


async def open_connection(database_url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection that reads JSON as the product does. The caller closes it."""
    connection = await asyncpg.connect(database_url)
    await prepare_connection(connection)
    return connection


async def prepare(ground: Ground, count: int) -> str:
    """Make a database with people and so many holds; return its name. BenchFailed when a hold is refused."""
    url = await ground.database(accounts=PEOPLE)
    connection = await open_connection(url)
    try:
        agreed = await _agreed(connection)
        ids, holds = [generation_id(n) for n in range(count)], [_hold_id(n) for n in range(count)]
        people = [account(n % PEOPLE) for n in range(count)]
        held = await connection.fetchval(SQL["hold"], ids, holds, people, agreed.total, agreed.as_snapshot())
    finally:
        await connection.close()
    if held != count:
        raise BenchFailed(f"of {count} holds {held} were granted")
    return url.rpartition("/")[2]


async def copy(ground: Ground, prepared: str) -> str:
    """Make a database like the prepared one; return its URL."""
    name = f"flight_{uuid4().hex}"
    connection = await asyncpg.connect(ground.server.url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{prepared}"')
    finally:
        await connection.close()
    return ground.databases.url(name)


async def _agreed(connection: Connection) -> Cost:
    return cost(await pricing.in_force(connection, Type.TEXT), batch_size=1)


async def seed(database_url: str, *, in_flight: Sequence[InFlight], in_line: Sequence[InLine]) -> None:
    """Write them all: those in flight by their numbers, and those in line by the numbers after them."""
    connection = await open_connection(database_url)
    try:
        agreed = await _agreed(connection)
        terms = (agreed.price_version, agreed.total)
        async with connection.transaction():
            await connection.execute(
                SQL["put_in_flight"],
                *_keys([job.number for job in in_flight]),
                [job.remote_id for job in in_flight],
                [job.ran_seconds for job in in_flight],
                [job.due_in for job in in_flight],
                *terms,
                ENDPOINT,
            )
            await connection.execute(SQL["put_attempts"])
            await connection.execute(
                SQL["put_in_line"],
                *_keys(range(len(in_flight), len(in_flight) + len(in_line))),
                [job.due_in for job in in_line],
                [job.runs_seconds for job in in_line],
                *terms,
            )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _keys(numbers: Sequence[int]) -> tuple[list[UUID], list[UUID], list[str]]:
    return (
        [generation_id(number) for number in numbers],
        [_hold_id(number) for number in numbers],
        [account(number % PEOPLE) for number in numbers],
    )
