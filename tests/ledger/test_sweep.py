"""The sweep over all accounts: what it finds, what it passes over, and two of them at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio

from shared import ledger
from shared.database import Connection, Pool
from tests.ledger.teller import HOUR, NOON, Teller

_DAYS_APART = iter(range(1, 100))


@pytest_asyncio.fixture(loop_scope="module")
async def start(pool: Pool) -> AsyncIterator[datetime]:
    """A day on which nothing of the other tests of this module is due."""
    start = NOON + next(_DAYS_APART) * 24 * HOUR
    async with pool.acquire() as connection:
        await ledger.expire_due(connection, limit=1000, now=start)
    yield start
    async with pool.acquire() as connection:
        await ledger.expire_due(connection, limit=1000, now=start + 20 * HOUR)


async def test_the_sweep_does_what_is_due_and_no_more(conn: Connection, start: datetime) -> None:
    for number in range(5):
        teller = Teller(conn, now=start)
        await teller.grant(10, lasts=1 if number % 2 else None)
        await teller.hold(3, lasts=1 + number)
    now = start + 2 * HOUR
    first = await ledger.expire_due(conn, limit=2, now=now)
    rest = await ledger.expire_due(conn, limit=100, now=now)
    assert first.accounts == 2
    # Holds that end within two hours: of the first two. Credits that had an hour: of the second and the fourth, where
    # three are still held.
    assert (first.holds + rest.holds, first.credits + rest.credits) == (2, 10 + 7)
    assert await ledger.expire_due(conn, limit=100, now=now) == ledger.Expired(accounts=0, holds=0, credits=0)


async def test_the_sweep_finds_a_hold_between_longer_ones(teller: Teller) -> None:
    await teller.grant(10)
    await teller.hold(1, lasts=8)
    await teller.hold(1, lasts=2)
    await teller.hold(1, lasts=8)
    assert (await teller.after(3).expire()).holds == 1
    await teller.hold(1, lasts=1)
    assert (await teller.after(2).expire()).holds == 1
    assert (await teller.after(10).expire()).holds == 2


@pytest.mark.parametrize(
    "busy_with",
    ["SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", "SELECT pg_advisory_xact_lock(ledger_line($1))"],
    ids=["the row", "the line before it"],
)
async def test_the_sweep_passes_over_who_is_busy(conn: Connection, pool: Pool, start: datetime, busy_with: str) -> None:
    busy, idle = Teller(conn, now=start), Teller(conn, now=start)
    for teller in (busy, idle):
        await teller.grant(5, lasts=1)
    now = start + HOUR
    async with pool.acquire() as other, other.transaction():
        await other.execute(busy_with, busy.user_id)
        assert await ledger.expire_due(conn, limit=10, now=now) == ledger.Expired(accounts=1, holds=0, credits=5)
    assert await ledger.expire_due(conn, limit=10, now=now) == ledger.Expired(accounts=1, holds=0, credits=5)


async def test_many_sweeps_at_once_do_everything_once(conn: Connection, pool: Pool, start: datetime) -> None:
    for _ in range(20):
        teller = Teller(conn, now=start)
        await teller.grant(5, lasts=1)
        await teller.hold(2)

    async def sweep() -> ledger.Expired:
        async with pool.acquire() as connection:
            return await ledger.expire_due(connection, limit=7, now=start + HOUR)

    done = await asyncio.gather(*(sweep() for _ in range(9)))
    done.append(await ledger.expire_due(conn, limit=100, now=start + HOUR))
    assert sum(swept.accounts for swept in done) == 20
    assert sum(swept.holds for swept in done) == 20
    assert sum(swept.credits for swept in done) == 100
