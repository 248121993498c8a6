"""Every named statement is one the migrated schema understands."""

import pytest

from shared import ledger
from shared.database import Connection
from tests.ledger import invariants

STATEMENTS = {**ledger._SQL, **invariants.QUERIES}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_it_prepares(conn: Connection, name: str) -> None:
    async with conn.transaction():
        await conn.prepare(STATEMENTS[name])


async def test_every_table_of_the_ledger_has_row_level_security(conn: Connection) -> None:
    rows = await conn.fetch(
        """SELECT relname, relrowsecurity FROM pg_class
           WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
               AND (relname LIKE 'credit\\_%' OR relname IN ('user_billing', 'price_versions'))"""
    )
    assert len(rows) == 7
    assert all(row["relrowsecurity"] for row in rows), rows


async def test_nobody_but_the_owner_may_call_or_read_the_ledger(conn: Connection) -> None:
    open_functions = await conn.fetch(
        """SELECT proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
           WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\\_%' AND a.grantee <> p.proowner"""
    )
    open_tables = await conn.fetch(
        """SELECT relname FROM pg_class c, aclexplode(c.relacl) a
           WHERE c.relnamespace = 'public'::regnamespace AND a.grantee <> c.relowner
               AND (relname LIKE 'credit\\_%' OR relname IN ('user_billing', 'price_versions'))"""
    )
    assert (open_functions, open_tables) == ([], [])


async def test_the_first_price_list(conn: Connection) -> None:
    rows = await conn.fetch("SELECT type, unit_credits FROM price_versions ORDER BY version")
    assert [tuple(row) for row in rows] == [("text", 1), ("image", 5), ("modify", 3), ("video", 10)]
