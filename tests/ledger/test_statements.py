"""Every named statement is one the migrated schema understands."""

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
