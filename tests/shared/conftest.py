"""Every test of the price list ends with its chain whole."""

from collections.abc import AsyncIterator

import pytest

from shared.database import Connection, Pool
from tests.shared.owner import BROKEN_LINKS


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """In autocommit; the chain is whole when the test is over."""
    async with pool.acquire() as connection:
        yield connection
        assert await connection.fetch(BROKEN_LINKS) == []


@pytest.fixture
async def draft(pool: Pool) -> AsyncIterator[Connection]:
    """In a transaction that is rolled back: nothing is left of what is done here."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
