"""A caller that vanishes in the middle leaves all of its operation or none of it."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from shared import ledger
from shared.database import UNREACHABLE, Connection, Pool
from tests.ledger.teller import Teller, fresh


async def _cancelled_after(pool: Pool, steps: int, act: Callable[[Connection], Awaitable[object]]) -> None:
    """Run `act` in a transaction and cancel it after so many turns of the loop."""

    async def run() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await act(connection)

    task = asyncio.create_task(run())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("steps", [*range(12), 20, 40, 80, 160])
async def test_cancelled_anywhere_a_retry_makes_it_whole(pool: Pool, teller: Teller, steps: int) -> None:
    grant_key, ref, capture_key = fresh("grant"), fresh("ref"), fresh("capture")
    await _cancelled_after(
        pool, steps, lambda conn: Teller(conn, user_id=teller.user_id).grant(10, key=grant_key, ref=ref)
    )
    await teller.grant(10, key=grant_key, ref=ref)
    assert (await teller.balance()).posted == 10
    hold = await teller.hold(6)
    await _cancelled_after(
        pool, steps, lambda conn: Teller(conn, user_id=teller.user_id).capture(hold, 4, key=capture_key)
    )
    assert (await teller.balance()).posted in {10, 6}
    await teller.capture(hold, 4, key=capture_key)
    assert await teller.balance() == ledger.Balance(available=6, held=0, posted=6, overdraft_used=0, overdraft_limit=0)


async def test_cancelled_while_waiting_for_the_account_nothing_happened(pool: Pool, teller: Teller) -> None:
    await teller.grant(5)
    seq = await teller.seq()
    async with pool.acquire() as owner, owner.transaction():
        await owner.execute("SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", teller.user_id)
        waiting = asyncio.create_task(_reserve_in_a_transaction(teller))
        await _until_somebody_waits(owner)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await teller.seq() == seq
    assert await teller.conn.fetchval("SELECT count(*) FROM credit_holds WHERE user_id = $1", teller.user_id) == 0


async def _reserve_in_a_transaction(teller: Teller) -> None:
    async with teller.conn.transaction():
        await teller.reserve(5)


async def test_a_killed_backend_leaves_nothing(pool: Pool, conn: Connection, database_url: str) -> None:
    teller = Teller(conn)
    await teller.grant(5)
    doomed = await asyncpg.connect(database_url)
    transaction = doomed.transaction()
    await transaction.start()
    assert (await Teller(doomed, user_id=teller.user_id).reserve(5)).outcome == "held"
    await conn.fetchval("SELECT pg_terminate_backend($1, 5000)", doomed.get_server_pid())
    with pytest.raises(UNREACHABLE):
        await transaction.commit()
    doomed.terminate()
    assert (await teller.balance()).available == 5
    assert (await teller.reserve(5)).outcome == "held"


async def _until_somebody_waits(connection: Connection) -> None:
    while not await connection.fetchval(
        "SELECT bool_or(pg_backend_pid() = ANY (pg_blocking_pids(pid))) FROM pg_stat_activity"
    ):
        pass
