"""The pool of both processes: what one use leaves behind, the next one does not find."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from shared import settings
from shared.database import Pool, open_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """One connection, for one after the other; nothing may be said of how it comes back."""
    told = settings.read(
        settings.Settings,
        _env_file=None,
        mode="local",
        database_url=database_url,
        database_pool_size=1,
        redis_url="redis://nobody",
        secret="local:" + "A" * 43 + "=",
        public_url="http://localhost",
    )
    said: list[Mapping[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    async with await open_pool(told, application_name="test") as opened:
        yield opened
    assert said == []


async def test_a_transaction_that_was_left_open_is_rolled_back(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("BEGIN; CREATE TABLE left_open ()")
    async with pool.acquire() as connection:
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT to_regclass('left_open')") is None


async def test_who_goes_away_at_any_moment_leaves_a_connection_for_the_next(pool: Pool) -> None:
    async def write() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")

    for steps in range(60):
        going = asyncio.create_task(write())
        for _ in range(steps):
            await asyncio.sleep(0)
        going.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going
        async with pool.acquire() as connection, connection.transaction():
            assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
