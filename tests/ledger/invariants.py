"""The truths about the ledger (I1 to I11 of ledger.md), for any test to call: `await assert_ledger_clean(conn)`."""

from shared import sql
from shared.database import Connection
from tests.ledger import oracle

QUERIES = sql.load(__file__)


async def broken_invariants(connection: Connection) -> list[str]:
    """Everything that is not as it should be, a line each; empty when the ledger is clean."""
    if connection.is_in_transaction():
        return await _broken(connection)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _broken(connection)


async def _broken(connection: Connection) -> list[str]:
    broken = [f"{name}: {dict(row)}" for name, query in QUERIES.items() for row in await connection.fetch(query)]
    return broken + await oracle.disagreements(connection)


async def assert_ledger_clean(connection: Connection) -> None:
    """Check every invariant and replay every entry, in one snapshot unless the caller has a transaction open.

    I1 holds by construction: a row is two legs of one amount.
    """
    broken = await broken_invariants(connection)
    assert not broken, "\n".join(broken)
