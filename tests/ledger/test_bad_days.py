"""Bad days for money: locks that are not given, statements that are cut off, clocks that go back."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import plans
from shared.database import Connection, Pool
from shared.errors import AccountBusy
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.life import connect
from tests.ledger.teller import NOON, Teller, fresh
from tests.local.databases import wait_for

FUNCTIONS = {
    "reserve": "ledger_reserve",
    "grant": "ledger_grant",
    "capture": "ledger_capture",
    "release": "ledger_release",
    "adjust": "ledger_adjust",
    "reverse_grant": "ledger_reverse_grant",
    "reverse_charge": "ledger_reverse_charge",
    "set_terms": "ledger_set_terms",
    "move_to": "ledger_set_time_zone",
    "look": "ledger_expire",
}
"""Every operation, and the function that waits for the account."""

ROWS = (
    "SELECT * FROM user_billing WHERE user_id = $1",
    "SELECT * FROM credit_buckets WHERE user_id = $1 ORDER BY 1",
    "SELECT * FROM credit_holds WHERE user_id = $1 ORDER BY 1",
    "SELECT * FROM credit_entries WHERE user_id = $1 ORDER BY seq",
    "SELECT * FROM credit_warnings WHERE user_id = $1 ORDER BY 1",
    "SELECT * FROM credit_operations WHERE scope = $1 ORDER BY key",
)


async def somebody(conn: Connection) -> tuple[Teller, dict[str, Any]]:
    """An account to which any operation could be done now, and how."""
    teller = Teller(conn)
    plan = await teller.plan(daily_credits=3)
    await teller.open(plan=plan)
    await teller.grant(20, ref="r")
    await teller.expire()
    done = await teller.hold(2)
    await teller.capture(done, 2)
    open_hold = await teller.hold(2, lasts=99)
    teller.after(24)
    return teller, {
        "reserve": lambda who: who.reserve(1),
        "grant": lambda who: who.grant(1),
        "capture": lambda who: who.capture(open_hold, 1),
        "release": lambda who: who.release(open_hold),
        "adjust": lambda who: who.adjust(-1),
        "reverse_grant": lambda who: who.reverse_grant("r"),
        "reverse_charge": lambda who: who.reverse_charge(done),
        "set_terms": lambda who: who.set_terms(policy="hard"),
        "move_to": lambda who: who.move_to("Europe/Berlin"),
        "look": lambda who: who.look(),
    }


async def everything(teller: Teller) -> list[Any]:
    """All rows of one account."""
    return [[tuple(row) for row in await teller.conn.fetch(query, teller.user_id)] for query in ROWS]


@pytest.mark.parametrize("operation", FUNCTIONS)
async def test_whoever_does_not_get_the_account_changes_nothing(pool: Pool, conn: Connection, operation: str) -> None:
    teller, acts = await somebody(conn)
    before = await everything(teller)
    async with pool.acquire() as owner, owner.transaction():
        await owner.execute("SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", teller.user_id)
        async with pool.acquire() as waiting:
            person = Teller(waiting, teller.user_id, teller.now)
            await waiting.execute("SET statement_timeout = '100ms'")
            with pytest.raises(asyncpg.QueryCanceledError):
                await acts[operation](person)
            await waiting.execute("SET statement_timeout = 0")
    assert await everything(teller) == before
    await acts[operation](teller)
    assert await everything(teller) != before


@pytest.mark.parametrize("operation", FUNCTIONS)
async def test_whoever_waits_too_long_is_told_so(pool: Pool, conn: Connection, operation: str) -> None:
    teller, acts = await somebody(conn)
    before = await everything(teller)
    await conn.execute(f"ALTER FUNCTION {FUNCTIONS[operation]} SET lock_timeout = '50ms'")
    async with pool.acquire() as owner, owner.transaction():
        await owner.execute("SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", teller.user_id)
        with pytest.raises(AccountBusy):
            await acts[operation](teller)
    await conn.execute(f"ALTER FUNCTION {FUNCTIONS[operation]} SET lock_timeout = '3s'")
    assert await everything(teller) == before


async def test_two_who_are_the_first_to_speak_of_somebody(pool: Pool, conn: Connection) -> None:
    """The second waits for the first; when the first gives up, the second opens the account."""
    for gives_up in (True, False):
        teller = Teller(conn)
        async with pool.acquire() as first:
            transaction = first.transaction()
            await transaction.start()
            await Teller(first, teller.user_id).adjust(5)
            second = asyncio.create_task(teller.adjust(7))
            while not await first.fetchval(
                "SELECT bool_or(pg_backend_pid() = ANY (pg_blocking_pids(pid))) FROM pg_stat_activity"
            ):
                pass
            await (transaction.rollback() if gives_up else transaction.commit())
        assert (await second).balance.available == (7 if gives_up else 12)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "reserve", "capture", "release", "expire", "adjust", "look"]),
        st.floats(-40, 40),
        st.integers(1, 12),
        st.sampled_from([None, 2, 30]),
        st.sampled_from([None, 1, 20]),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_a_clock_that_goes_back_breaks_nothing(database_url: str, steps: list[Any]) -> None:
    wait_for(_by_a_bad_clock(database_url, steps))


async def _by_a_bad_clock(url: str, steps: list[Any]) -> None:
    conn = await connect(url)
    try:
        teller = Teller(conn)
        plan = await teller.plan(daily_credits=4)
        await teller.open(plan=plan, overdraft_limit=9)
        holds: list[Any] = []
        for step, hours, amount, lasts, starts in steps:
            teller.now = datetime(2026, 3, 28, 12, tzinfo=UTC) + timedelta(hours=hours)
            looked, quote = await teller.balance(), await teller.decide(amount)
            assert quote.balance == looked
            match step:
                case "grant":
                    ends = None if lasts is None else lasts + (starts or 0)
                    await teller.grant(amount, starts=starts, lasts=ends)
                case "reserve":
                    submit = await teller.reserve(amount, lasts=lasts or 5)
                    assert (submit.decision.verdict, submit.decision.balance) == (quote.verdict, quote.balance)
                    holds += [submit.hold_id] if submit.hold_id else []
                case "capture" if holds:
                    await teller.capture(holds.pop(), 1)
                case "release" if holds:
                    await teller.release(holds.pop(0))
                case "adjust":
                    await teller.adjust(amount)
                case "look":
                    await teller.look()
                case _:
                    await teller.expire()
        days = [day for day, _, _ in await teller.daily()]
        assert len(days) == len(set(days))
        await assert_ledger_clean(conn)
    finally:
        await conn.close()


async def test_debt_beside_credits_from_the_future_is_paid_when_the_clock_is_right(teller: Teller) -> None:
    await teller.open(overdraft_limit=9)
    await teller.grant(10)
    teller.now = NOON - timedelta(hours=2)
    await teller.capture(await teller.hold(6), 6)
    teller.now = NOON
    quote = await teller.decide(1)
    assert (quote.balance.available, quote.balance.overdraft_used) == (4, 0)
    assert (await teller.reserve(1)).decision == quote


async def test_who_has_only_the_row_is_waited_for_and_what_they_wrote_counts(pool: Pool, conn: Connection) -> None:
    """A hand in psql, or a transaction that began before there was a line, does not stand in it."""
    teller = await Teller(conn).open(policy="off")
    async with pool.acquire() as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("UPDATE user_billing SET policy = 'hard' WHERE user_id = $1", teller.user_id)
        waiting = asyncio.create_task(teller.reserve(5))
        while not await hand.fetchval("SELECT pg_blocking_pids($1) <> '{}'", conn.get_server_pid()):
            await asyncio.sleep(0)
        await transaction.commit()
        assert (await waiting).outcome == "denied"
        await hand.execute("UPDATE user_billing SET policy = 'off' WHERE user_id = $1", teller.user_id)


async def test_a_plan_that_a_hand_changed_meanwhile_counts(pool: Pool, conn: Connection) -> None:
    """The account was waited for with its old plan's terms in hand."""
    plan = fresh("plan")
    await plans.set_plan(conn, plan=plan, key=plan, terms={"policy": "hard"}, reason=None, actor="test")
    teller = await Teller(conn).open(overdraft_limit=100)
    async with pool.acquire() as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("UPDATE user_billing SET plan = $2 WHERE user_id = $1", teller.user_id, plan)
        waiting = asyncio.create_task(teller.reserve(5))
        while not await hand.fetchval("SELECT pg_blocking_pids($1) <> '{}'", conn.get_server_pid()):
            await asyncio.sleep(0)
        await transaction.commit()
        assert (await waiting).outcome == "denied"
        await hand.execute("UPDATE user_billing SET plan = 'free' WHERE user_id = $1", teller.user_id)


async def test_who_was_opened_by_a_hand_meanwhile_is_not_opened_again(pool: Pool, conn: Connection) -> None:
    teller = Teller(conn)
    async with pool.acquire() as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("INSERT INTO user_billing (user_id) VALUES ($1)", teller.user_id)
        waiting = asyncio.create_task(teller.grant(5))
        while not await hand.fetchval("SELECT pg_blocking_pids($1) <> '{}'", conn.get_server_pid()):
            await asyncio.sleep(0)
        await transaction.commit()
        await waiting
    assert (await teller.balance()).available == 5
