"""Every ledger test ends with the invariants and the oracle, whatever it was about.

The tests of a module share a loop and a pool: a new connection has to compile the ledger's functions and to plan its
verification, which took longer than the tests. What a session was told to be is forgotten when it goes back.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from shared.database import Connection, Pool, prepare_connection
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.teller import Teller

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == _HERE and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool of up to ten connections on the module's database, set up as in production."""
    async with asyncpg.create_pool(database_url, min_size=0, max_size=10, init=prepare_connection) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """A connection in autocommit; the ledger is proved clean when the test is over."""
    async with pool.acquire() as connection:
        yield connection
        await assert_ledger_clean(connection)


@pytest.fixture
def teller(conn: Connection) -> Teller:
    """Somebody new."""
    return Teller(conn)
