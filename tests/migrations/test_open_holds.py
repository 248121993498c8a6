"""A ledger that was at work when …_twin_ledger_fewer_rows came: what was promised before is settled after."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from migrations.runner import migrate
from shared.database import Connection, prepare_connection
from shared.schema import known_migrations
from shared.verify import verify
from tests.ledger.invariants import LONG_AGO
from tests.ledger.teller import Teller

FEWER_ROWS = "20261127000400"


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[Connection]:
    """A database as the version before it had it."""
    opened = await asyncpg.connect(empty_database_url)
    await prepare_connection(opened)
    await migrate(opened, [each for each in known_migrations() if each.version < FEWER_ROWS])
    yield opened
    await opened.close()


async def test_a_hold_of_before_is_settled_after(connection: Connection) -> None:
    teller = await Teller(connection).open(policy="soft", overdraft_limit=10)
    other = await Teller(connection).open()
    for each in (teller, other):
        await each.grant(5, "promo")
        await each.grant(7, "paid")
    beside = await other.hold(6, lasts=100)
    ended = await teller.hold(2)
    await teller.capture(ended, 1)
    over_both_buckets = await teller.hold(8)
    free = await teller.hold(0)
    on_credit = await teller.hold(6)
    runs_out = await other.hold(1)
    gone = await other.hold(1)
    await other.after(2).expire()

    await migrate(connection)

    teller.after(0.5)
    await teller.capture(over_both_buckets, 6)
    await teller.capture(free, 0)
    await teller.release(on_credit)
    await other.capture(gone, 1)
    await other.release(runs_out)
    await other.capture(beside, 6)
    left = [
        (row["kind"], row["remaining"], row["held"])
        for row in await connection.fetch(
            "SELECT kind::text, remaining, held FROM credit_buckets WHERE user_id = $1 ORDER BY 1 DESC", teller.user_id
        )
    ]
    assert left == [("promo", 0, 0), ("paid", 5, 0)]
    assert [finding async for finding in verify(connection, now=LONG_AGO, alone=True)] == []


async def _asks_for_the_tables(connection: Connection) -> None:
    async with asyncio.timeout(10):
        while not await connection.fetchval(
            """SELECT EXISTS (SELECT FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event = 'PgSleep')"""
        ):
            pass


async def test_it_waits_for_whoever_is_at_work_and_nobody_stops(
    connection: Connection, empty_database_url: str
) -> None:
    busy = await asyncpg.connect(empty_database_url)
    teller = await Teller(connection).open()
    await teller.grant(5)
    hold_id = await teller.hold(2)
    try:
        async with busy.transaction():
            await busy.fetchval("SELECT user_id FROM credit_holds WHERE hold_id = $1", hold_id)
            coming = asyncio.create_task(migrate(connection))
            await _asks_for_the_tables(busy)
            at_work = Teller(busy, teller.user_id)
            await at_work.capture(hold_id, 1)
            later = await at_work.hold(3)
        await coming
        await Teller(busy, teller.user_id).capture(later, 3)
    finally:
        await busy.close()
    assert [finding async for finding in verify(connection, now=LONG_AGO, alone=True)] == []
