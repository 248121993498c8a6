"""A caller that vanishes in the middle leaves all of its operation or none of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared import ledger
from shared.database import UNREACHABLE, Connection, Pool
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.teller import Teller, balance
from tests.turns import at_every_turn, cut_before

BEFORE = balance(available=5, held=6, posted=11)


@dataclass(frozen=True)
class Account:
    """Somebody with 15 bought credits: 6 are held, and 4 were charged."""

    teller: Teller
    open: UUID
    charged: UUID
    generation: UUID

    def on(self, connection: Connection) -> "Account":
        """The same account, on another connection."""
        return Account(Teller(connection, user_id=self.teller.user_id), self.open, self.charged, self.generation)


async def opened(conn: Connection) -> Account:
    teller = Teller(conn)
    await teller.grant(15, ref="bought")
    charged = await teller.hold(4)
    await teller.capture(charged, 4)
    return Account(teller, await teller.hold(6), charged, generation=uuid4())


@dataclass(frozen=True)
class Operation:
    """One operation of the ledger, always under the same key, what it leaves, and in how many entries."""

    name: str
    do: Callable[[Account], Awaitable[Any]]
    after: ledger.Balance
    entries: int = 1

    def __str__(self) -> str:
        return self.name


def _reserve(account: Account) -> Awaitable[Any]:
    return account.teller.reserve(3, key="key", generation_id=account.generation)


OPERATIONS = [
    Operation("reserve", _reserve, balance(2, 9, 11)),
    Operation("capture", lambda a: a.teller.capture(a.open, 4, key="key"), balance(7, 0, 7), entries=2),
    Operation("release", lambda a: a.teller.release(a.open, key="key"), balance(11, 0, 11)),
    Operation("grant", lambda a: a.teller.grant(10, key="key", ref="more"), balance(15, 6, 21)),
    Operation("adjust up", lambda a: a.teller.adjust(2, key="key"), balance(7, 6, 13)),
    Operation("adjust down", lambda a: a.teller.adjust(-2, key="key"), balance(3, 6, 9)),
    Operation("reverse the grant", lambda a: a.teller.reverse_grant("bought"), balance(0, 6, 6)),
    Operation("reverse the charge", lambda a: a.teller.reverse_charge(a.charged), balance(9, 6, 15)),
    Operation("set terms", lambda a: a.teller.set_terms(key="key", overdraft_limit=3), balance(5, 6, 11, limit=3), 0),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
async def test_cut_off_in_any_turn_all_of_it_happened_or_nothing(
    pool: Pool, conn: Connection, operation: Operation
) -> None:
    """An account for each turn of the loop; then everybody asks again, and it has happened once."""
    accounts: list[Account] = []
    told: list[ledger.Balance] = []

    async def in_a_transaction(account: Account) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await operation.do(account.on(connection))

    async def cut(turn: int) -> bool:
        account = await opened(conn)
        cut_off = await cut_before(turn, in_a_transaction(account))
        accounts.append(account)
        told.append(await account.teller.balance())
        return cut_off

    await at_every_turn(cut)
    assert set(told) == {BEFORE, operation.after}
    assert told[0] == BEFORE, "cut off before it began"
    assert told[-1] == operation.after, "not cut off"
    assert operation.after in told[:-1], "cut off between its commit and its end"
    await assert_ledger_clean(conn)
    for account, now in zip(accounts, told, strict=True):
        seq = await account.teller.seq() + operation.entries * (now == BEFORE)
        await operation.do(account)
        assert (await account.teller.balance(), await account.teller.seq()) == (operation.after, seq)


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
