"""The truths about the ledger (I1 to I11 of ledger.md), for any test to call: `await assert_ledger_clean(conn)`.

The product's own verification, and beside it an oracle in Python that shares no line with it.
"""

from datetime import UTC, datetime
from pathlib import Path

from shared.database import Connection
from shared.verify import verify
from tests.ledger import oracle

MOST_TOLD = 100
"""So many lines say what is wrong; a report of thousands of accounts is more than pytest can print."""

TRIGGERS = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
"""What every commit in a test's database is asked; see there."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""For `verify`: stories have times of their own, so by their clocks no hold is overdue."""


async def ask_before_commit(connection: Connection) -> None:
    """Let the triggers ask now what they would ask at the commit: what they have to ask about cannot be altered."""
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; RESET invariants.checked")


async def broken_invariants(connection: Connection, *, alone: bool = True) -> list[str]:
    """Everything that is not as it should be, a line each; empty when the ledger is clean.

    `alone`: its holds are of no generations, as where only the ledger is tested.
    """
    if connection.is_in_transaction():
        return await _broken(connection, alone)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _broken(connection, alone)


async def _broken(connection: Connection, alone: bool) -> list[str]:
    found = [f"{finding} {finding.detail}" async for finding in verify(connection, now=LONG_AGO, alone=alone)]
    return found + await oracle.disagreements(connection)


async def assert_ledger_clean(connection: Connection, *, alone: bool = True) -> None:
    """Verify everything and replay every entry, in one snapshot unless the caller has a transaction open."""
    broken = await broken_invariants(connection, alone=alone)
    assert not broken, "\n".join([*broken[:MOST_TOLD], f"{len(broken)} lines in all"])
