"""The pool of both processes: what one use leaves behind, the next one does not find."""

import asyncio
from collections.abc import Mapping

from shared import settings
from shared.database import open_pool


async def test_a_transaction_that_was_left_open_is_rolled_back(database_url: str) -> None:
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
    async with await open_pool(told, application_name="test") as pool:
        async with pool.acquire() as connection:
            await connection.execute("BEGIN; CREATE TABLE left_open ()")
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT to_regclass('left_open')") is None
    assert ["active transaction" in str(each["message"]) for each in said] == [True]
