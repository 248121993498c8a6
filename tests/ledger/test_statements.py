"""Every named statement is one the migrated schema understands."""

import re

import pytest

from shared import corrections, ledger, plans, verifications, verify
from shared.database import Connection

STATEMENTS = {**ledger._SQL, **corrections._SQL, **plans._SQL, **verify._SQL, **verifications._SQL}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_it_prepares(conn: Connection, name: str) -> None:
    async with conn.transaction():
        await conn.prepare(STATEMENTS[name])


async def test_the_first_price_list(conn: Connection) -> None:
    rows = await conn.fetch("SELECT type, unit_credits FROM price_versions ORDER BY version")
    assert [tuple(row) for row in rows] == [("text", 1), ("image", 5), ("modify", 3), ("video", 10)]


async def test_every_operation_waits_for_a_lock_only_so_long(conn: Connection) -> None:
    """And finds only what it names: whoever may write has an empty search_path, too."""
    rows = await conn.fetch(
        """SELECT proname::text, proconfig FROM pg_proc
           WHERE pronamespace = 'public'::regnamespace AND proname = ANY ($1)""",
        [match for text in STATEMENTS.values() for match in re.findall(r"\bledger_\w+(?=\(\$)", text)],
    )
    reads = {"ledger_balance", "ledger_decide", "ledger_books_at"}
    for row in rows:
        expected = {'search_path=""'} | (set() if row["proname"] in reads else {"lock_timeout=3s"})
        assert set(row["proconfig"] or ()) >= expected, row["proname"]
    assert {row["proname"] for row in rows} >= reads | {"ledger_reserve", "ledger_adjust", "ledger_set_terms"}


async def test_rows_have_room_to_be_updated_in_place(conn: Connection) -> None:
    rows = await conn.fetch(
        """SELECT relname::text FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND 'fillfactor=70' = ANY (reloptions)"""
    )
    assert {row[0] for row in rows} >= {"user_billing", "credit_buckets"}
