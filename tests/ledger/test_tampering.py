"""What the database refuses outright, and what the invariants name when somebody went round it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from shared import ledger
from shared.database import Connection, Pool
from shared.findings import MEANINGS, Finding
from shared.verify import verify
from tests.ledger.forgeries import FORGERIES, allow_everything
from tests.ledger.invariants import LONG_AGO, ask_before_commit, assert_ledger_clean, broken_invariants
from tests.ledger.teller import HOUR, NOON, Teller


@pytest_asyncio.fixture(loop_scope="module")
async def teller(pool: Pool) -> AsyncIterator[Teller]:
    """Somebody to whom all of it has happened, in a transaction that is rolled back."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        teller = Teller(connection)
        await teller.open(plan=await teller.plan(daily_credits=10))
        await teller.set_terms(overdraft_limit=5)
        await teller.move_to("Europe/Paris")
        await teller.look()
        await teller.grant(10, "promo", lasts=24)
        await ledger.grant(
            connection,
            user_id=teller.user_id,
            key="purchase",
            amount=10,
            kind="paid",
            source_ref="order",
            actor="till",
            paid_amount=500,
            paid_currency="EUR",
            now=teller.now,
        )
        charged = await teller.hold(25)
        await teller.capture(charged, 23)
        await teller.release(await teller.hold(4))
        again = uuid4()
        for _ in range(2):
            held = await teller.reserve(1, generation_id=again)
            assert held.hold_id is not None
            await teller.release(held.hold_id)
        await teller.adjust(7)
        await teller.adjust(-2)
        await teller.reverse_charge(charged, 3)
        late = await teller.hold(2, lasts=0.5)
        await teller.hold(1, lasts=0.5)
        await teller.after(1).expire()
        await teller.capture(late, 2)
        await teller.grant(6, "promo", lasts=48)
        await teller.grant(5, "plan", ref="month")
        await teller.reverse_grant("month", kind="plan")
        await teller.capture(await teller.hold(0), 0)
        assert (await teller.reserve(1000)).outcome == "denied"
        await teller.hold(3, lasts=100)
        await ask_before_commit(connection)
        yield teller
        await transaction.rollback()


@pytest.mark.parametrize("table", ["credit_entries", "credit_operations", "price_versions"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET {}"])
async def test_history_cannot_be_changed(teller: Teller, table: str, change: str) -> None:
    column = {"credit_entries": "actor = actor", "credit_operations": "kind = kind", "price_versions": "note = note"}
    with pytest.raises(asyncpg.PostgresError) as refused:
        await teller.conn.execute(change.format(table, column[table]))
    assert refused.value.sqlstate == "TW008"


@pytest.mark.parametrize("table", ["user_billing", "credit_buckets", "credit_holds"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET user_id = 'else'"])
async def test_what_entries_tell_of_stays_whose_it_is(teller: Teller, table: str, change: str) -> None:
    with pytest.raises(asyncpg.PostgresError, match="stay whose they are") as refused:
        await teller.conn.execute(change.format(table))
    assert refused.value.sqlstate == "TW008"


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO price_versions (type, unit_credits, created_by) VALUES ('text', -1, 'me')",
        "INSERT INTO price_versions (type, unit_credits, created_by) VALUES ('smell', 1, 'me')",
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 1, 'me', '[{"min_batch": 4, "multiplier_permille": -1}]')""",
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 1, 'me', '[{"min_batch": "4", "multiplier_permille": 900}]')""",
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 1, 'me', '[{"min_batch": 4}]')""",
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 1, 'me', '{"min_batch": 4, "multiplier_permille": 900}')""",
    ],
)
async def test_a_bad_price_is_impossible(teller: Teller, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await teller.conn.execute(change)


async def test_a_good_price_is_possible(teller: Teller) -> None:
    await teller.conn.execute(
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 0, 'me', '[{"min_batch": 4, "multiplier_permille": 900}]')"""
    )


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forgery_is_named_by_its_row(teller: Teller, name: str) -> None:
    forgery = FORGERIES[name]
    assert await broken_invariants(teller.conn) == []
    key = await forgery.commit(teller.conn, teller.user_id)
    found = await _found(teller.conn)
    assert (forgery.kind, forgery.table, key) in {(f.kind, f.table, f.key) for f in found}, "\n".join(map(str, found))
    assert {f.user_id for f in found} <= {teller.user_id, None}, "somebody else is blamed"


@pytest.mark.parametrize("amount", [0, 2])
async def test_a_hold_that_names_anothers_entries_settles_its_own(teller: Teller, amount: int) -> None:
    await teller.grant(9, "adjust")
    beside, hold_id = await teller.hold(4), await teller.hold(2)
    await teller.conn.execute(
        """UPDATE credit_holds SET first_seq = (SELECT o.first_seq FROM credit_holds o WHERE o.hold_id = $1)
           WHERE hold_id = $2""",
        beside,
        hold_id,
    )
    settled = await teller.capture(hold_id, amount)
    assert (settled.captured, settled.released) == (amount, 2 - amount)
    moved = "SELECT sum(amount) FROM credit_entries WHERE hold_id = $1 AND kind <> 'reserve'"
    assert [await teller.conn.fetchval(moved, each) for each in (beside, hold_id)] == [None, 2]


@pytest.mark.parametrize(("first", "last"), [(97, 97), (0, -1)])
async def test_a_hold_that_does_not_find_its_entries_is_not_settled(teller: Teller, first: int, last: int) -> None:
    await teller.grant(1, "promo", priority=1)
    await teller.grant(9)
    hold_id = await teller.hold(4)
    await teller.conn.execute(
        "UPDATE credit_holds SET first_seq = first_seq + $2, last_seq = last_seq + $3 WHERE hold_id = $1",
        hold_id,
        first,
        last,
    )
    for end in (teller.capture(hold_id, 4), teller.capture(hold_id, 0), teller.release(hold_id)):
        with pytest.raises(asyncpg.CheckViolationError, match="is not what its entries reserved"):
            async with teller.conn.transaction():
                await end
    swept = await ledger.expire_due(teller.conn, limit=100, now=teller.after(2).now)
    assert swept.failed == 1


@pytest.mark.parametrize("left", ["credit_acts", "credit_operations", "credit_warnings"])
async def test_an_account_that_was_deleted_with_its_entries_is_named(teller: Teller, left: str) -> None:
    await teller.conn.execute("SELECT ledger_warn(ledger_lock($1), 0, 1, $2)", teller.user_id, teller.now)
    await allow_everything(teller.conn)
    for table, statement in (
        ("credit_entries", "DELETE FROM credit_entries WHERE user_id = $1"),
        ("credit_buckets", "DELETE FROM credit_buckets WHERE user_id = $1"),
        ("credit_holds", "DELETE FROM credit_holds WHERE user_id = $1"),
        ("user_billing", "DELETE FROM user_billing WHERE user_id = $1"),
        ("credit_warnings", "DELETE FROM credit_warnings WHERE user_id = $1"),
        ("credit_operations", "DELETE FROM credit_operations WHERE scope = $1"),
        ("credit_acts", "DELETE FROM credit_acts WHERE scope = $1"),
    ):
        if table != left:
            await teller.conn.execute(statement, teller.user_id)
    named = [("account-missing", teller.user_id, [left])]
    assert [(f.kind, f.key, f.detail["found_in"]) for f in await _found(teller.conn)] == named
    alone = [f async for f in verify(teller.conn, user_id=teller.user_id, now=LONG_AGO, alone=True)]
    assert [(f.kind, f.key, f.detail["found_in"]) for f in alone] == named


@pytest.mark.parametrize("name", ["edited amount", "edited balance", "edited actor", "deleted entry"])
async def test_one_bad_entry_does_not_blame_the_others(teller: Teller, name: str) -> None:
    key = await FORGERIES[name].commit(teller.conn, teller.user_id)
    entries = {
        f.key for f in await _found(teller.conn) if f.kind in {"entry-changed", "entry-unbalanced", "entry-missing"}
    }
    assert entries == {key}


async def test_every_bad_entry_is_named(teller: Teller) -> None:
    await allow_everything(teller.conn)
    await teller.conn.execute("UPDATE credit_entries SET actor = 'x' WHERE user_id = $1", teller.user_id)
    changed = {f.key for f in await _found(teller.conn) if f.kind == "entry-changed"}
    assert changed == {f"{teller.user_id}/{seq}" for seq in range(1, await teller.seq() + 1)}


def test_every_kind_of_finding_is_provoked() -> None:
    elsewhere = {"generation-differs", "hold-orphaned", "hold-overdue", "overdraft-beyond-limit", "sum-differs"}
    assert {forgery.kind for forgery in FORGERIES.values()} | elsewhere == set(MEANINGS)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE user_billing SET overdraft_limit = 1000 WHERE user_id = $1",
        "UPDATE user_billing SET policy = 'off' WHERE user_id = $1",
        "UPDATE user_billing SET low_balance_threshold = 0 WHERE user_id = $1",
        "UPDATE user_billing SET plan = 'gold' WHERE user_id = $1",
        "UPDATE user_billing SET time_zone = 'Asia/Tokyo' WHERE user_id = $1",
    ],
)
async def test_terms_that_nobody_ever_set_cannot_be_forged(teller: Teller, change: str) -> None:
    plain = await Teller(teller.conn).open()
    await plain.plan(name="gold")
    assert await broken_invariants(teller.conn) == []
    await teller.conn.execute(change, plain.user_id)
    assert [(f.kind, f.key) for f in await _found(teller.conn)] == [("account-terms", plain.user_id)]


@pytest.mark.parametrize("kind", ["set-terms", "set-time-zone", "open"])
async def test_terms_whose_record_was_deleted_are_named(teller: Teller, kind: str) -> None:
    changed = await Teller(teller.conn).open(**{"policy": "hard"} if kind == "open" else {})
    if kind == "set-terms":
        await changed.set_terms(overdraft_limit=500)
    if kind == "set-time-zone":
        await changed.move_to("Asia/Tokyo")
    assert await broken_invariants(teller.conn) == []
    await allow_everything(teller.conn)
    await teller.conn.execute("DELETE FROM credit_operations WHERE scope = $1 AND kind = $2", changed.user_id, kind)
    named = {(f.kind, f.table, f.key) for f in await _found(teller.conn)}
    assert named == {
        (k, t, changed.user_id) for k, t in (("account-terms", "user_billing"), ("operation-missing", "credit_acts"))
    }


async def test_a_warning_that_was_reset_is_named(teller: Teller) -> None:
    warned = await Teller(teller.conn).open(low_balance_threshold=5)
    await warned.grant(10)
    await warned.after(1).hold(8, lasts=100)
    assert await broken_invariants(teller.conn) == []
    await teller.conn.execute("UPDATE user_billing SET warned = 0 WHERE user_id = $1", warned.user_id)
    assert [(f.kind, f.key) for f in await _found(teller.conn)] == [("account-warned", warned.user_id)]


async def test_credits_from_nowhere_are_seen_in_the_sum(teller: Teller) -> None:
    await teller.conn.execute("UPDATE user_billing SET posted = posted + 5 WHERE user_id = $1", teller.user_id)
    [total] = [f for f in await _found(teller.conn) if f.kind == "sum-differs"]
    spent = sum(total.detail[leg] for leg in ("revenue", "expired", "reversed", "outstanding"))
    assert spent - total.detail["issued"] == 5


async def _found(connection: Connection) -> list[Finding]:
    return [finding async for finding in verify(connection, now=LONG_AGO, alone=True)]


async def test_a_forged_account_keeps_nobody_waiting(pool: Pool) -> None:
    async with pool.acquire() as connection:
        forged, honest = Teller(connection), Teller(connection)
        for teller in (forged, honest):
            await teller.grant(5, lasts=1)
        await _post(connection, forged, 1)
        swept = await ledger.expire_due(connection, limit=10, now=NOON + HOUR)
        assert swept == ledger.Expired(accounts=1, holds=0, credits=5, failed=1)
        await _post(connection, forged, 5)
        assert (await ledger.expire_due(connection, limit=10, now=NOON + HOUR)).credits == 5
        await assert_ledger_clean(connection)


async def test_many_forged_accounts_keep_nobody_waiting(pool: Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(3):
            forged = Teller(connection)
            await forged.grant(5, lasts=1)
            await _post(connection, forged, 1)
        await Teller(connection).grant(5, lasts=1)  # the last that the sweep comes to
        swept = await ledger.expire_due(connection, limit=1, now=NOON + HOUR)
        assert (swept.accounts, swept.credits) == (1, 5)
        await transaction.rollback()


async def _post(connection: Connection, teller: Teller, posted: Any) -> None:
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE user_billing SET posted = $2 WHERE user_id = $1", teller.user_id, posted)
    await connection.execute("SET session_replication_role = origin")
