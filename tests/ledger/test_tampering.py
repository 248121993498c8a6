"""What the database refuses outright, and what the invariants name when somebody went round it."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from shared import ledger
from shared.database import Connection, Pool
from tests.ledger.invariants import assert_ledger_clean, broken_invariants
from tests.ledger.teller import HOUR, NOON, Teller


@pytest.fixture
async def teller(pool: Pool) -> AsyncIterator[Teller]:
    """Somebody with a history, in a transaction that is rolled back."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        teller = await Teller(connection).open(overdraft_limit=5)
        await teller.grant(10, "promo", lasts=24)
        await teller.grant(10)
        await teller.capture(await teller.hold(12), 11)
        await teller.release(await teller.hold(4))
        await teller.hold(3)
        yield teller
        await transaction.rollback()


@pytest.mark.parametrize("table", ["credit_entries", "credit_operations", "price_versions"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "TRUNCATE {} CASCADE", "UPDATE {} SET {}"])
async def test_history_cannot_be_changed(teller: Teller, table: str, change: str) -> None:
    column = {"credit_entries": "actor = actor", "credit_operations": "kind = kind", "price_versions": "note = note"}
    with pytest.raises(asyncpg.PostgresError) as refused:
        await teller.conn.execute(change.format(table, column[table]))
    assert refused.value.sqlstate == "TW008"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE user_billing SET posted = -1",
        "UPDATE user_billing SET overdraft_used = -1",
        "UPDATE user_billing SET held = posted + 1",
        "UPDATE credit_buckets SET remaining = granted + 1",
        "UPDATE credit_buckets SET held = -1",
        "UPDATE credit_holds SET captured = quoted",
        "UPDATE credit_holds SET state = 'open' WHERE state = 'captured'",
        "UPDATE credit_holds SET state = 'released' WHERE state = 'open'",
        "UPDATE credit_holds SET late = true WHERE state = 'captured'",
        "UPDATE credit_holds SET late_captured = 1",
        "UPDATE credit_hold_parts SET captured = amount + 1",
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
async def test_a_bad_row_is_impossible(teller: Teller, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await teller.conn.execute(change)


async def test_a_good_price_is_possible(teller: Teller) -> None:
    await teller.conn.execute(
        """INSERT INTO price_versions (type, unit_credits, created_by, batch_multipliers)
           VALUES ('text', 0, 'me', '[{"min_batch": 4, "multiplier_permille": 900}]')"""
    )


FORGERIES = {
    "edited amount": "UPDATE credit_entries SET amount = amount + 1 WHERE user_id = $1 AND seq = 3",
    "edited actor": "UPDATE credit_entries SET actor = 'somebody else' WHERE user_id = $1 AND seq = 1",
    "deleted entry": "DELETE FROM credit_entries WHERE user_id = $1 AND seq = 4",
    "deleted last entry": """DELETE FROM credit_entries e USING user_billing a
        WHERE e.user_id = $1 AND a.user_id = $1 AND e.seq = a.seq""",
    "swapped rows": """UPDATE credit_entries e SET amount = o.amount, bucket_id = o.bucket_id FROM credit_entries o
        WHERE e.user_id = $1 AND o.user_id = $1 AND (e.seq, o.seq) IN ((1, 2), (2, 1), (3, 4), (4, 3))""",
    "forged balance": "UPDATE user_billing SET posted = posted + 5 WHERE user_id = $1",
    "forged debt": "UPDATE user_billing SET overdraft_used = overdraft_used + 1 WHERE user_id = $1",
    "forged head": "UPDATE user_billing SET head_hash = sha256('x') WHERE user_id = $1",
    "forged bucket": "UPDATE credit_buckets SET granted = granted + 5, remaining = remaining + 5 WHERE user_id = $1",
    "forged bucket, balance kept": """UPDATE credit_buckets SET granted = 30,
        remaining = remaining + CASE kind WHEN 'paid' THEN -1 ELSE 1 END WHERE user_id = $1""",
    "orphan hold": """INSERT INTO credit_holds (hold_id, user_id, generation_id, quoted, price, created_at, expires_at)
        VALUES (gen_random_uuid(), $1, gen_random_uuid(), 4, '{}', now(), now())""",
    "hold settled by hand": """UPDATE credit_holds SET state = 'released', released = quoted, final = true,
        settled_at = now() WHERE user_id = $1 AND state = 'open'""",
    "hold made dearer": "UPDATE credit_holds SET quoted = quoted + 1 WHERE user_id = $1 AND state = 'open'",
    "hold made cheaper": """UPDATE credit_holds SET captured = captured - 1, released = released + 1
        WHERE user_id = $1 AND state = 'captured'""",
    "part moved to another bucket": """UPDATE credit_hold_parts p SET bucket_id = (
            SELECT min(bucket_id) FROM credit_buckets WHERE user_id = $1)
        FROM credit_holds h WHERE h.hold_id = p.hold_id AND h.user_id = $1 AND h.state = 'open'""",
    "hold hidden from the sweep": "UPDATE user_billing SET holds_due_at = NULL WHERE user_id = $1",
    "bucket hidden from the sweep": """UPDATE credit_buckets SET expires_at = '2026-01-02', effective_at = '2026-01-01'
        WHERE user_id = $1 AND kind = 'paid'""",
    "edited price": """UPDATE price_versions SET unit_credits = unit_credits + 1
        WHERE version = 2 AND EXISTS (SELECT FROM user_billing WHERE user_id = $1)""",
    "replayed grant": """INSERT INTO credit_buckets
        (user_id, kind, granted, remaining, effective_at, source_ref, created_at)
        VALUES ($1, 'paid', 10, 10, now(), 'again', now())""",
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forgery_is_named(teller: Teller, forgery: str) -> None:
    """By somebody who may do anything: triggers and constraints are off."""
    assert await broken_invariants(teller.conn) == []
    await teller.conn.execute("SET LOCAL session_replication_role = replica")
    done = await teller.conn.execute(FORGERIES[forgery], teller.user_id)
    assert not done.endswith(" 0")
    assert await broken_invariants(teller.conn)


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


async def _post(connection: Connection, teller: Teller, posted: Any) -> None:
    await connection.execute("UPDATE user_billing SET posted = $2 WHERE user_id = $1", teller.user_id, posted)
