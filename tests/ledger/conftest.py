"""Every ledger test ends with the invariants and the oracle, whatever it was about."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Connection, Pool
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.teller import Teller


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in autocommit; the ledger is proved clean when the test is over."""
    async with pool.acquire() as connection:
        yield connection
        await assert_ledger_clean(connection)


@pytest.fixture
def teller(conn: Connection) -> Teller:
    """Somebody new."""
    return Teller(conn)
