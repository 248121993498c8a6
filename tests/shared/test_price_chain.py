"""The chain over the price list: however many add at once it does not break, and an edited version is named."""

import asyncio

import asyncpg
import pytest

from shared import pricing
from shared.database import Connection, Pool
from shared.generations import Type
from shared.pricing import Version
from tests.shared.owner import BROKEN_LINKS, STEPS, add

N = 12


async def test_one_key_raced_by_many_is_one_version(pool: Pool, conn: Connection) -> None:
    async def one() -> tuple[Version, bool]:
        async with pool.acquire() as connection:
            return await pricing.add(connection, key="raced", generation_type=Type.TEXT, unit_credits=2, actor="owner")

    results = await asyncio.gather(*(one() for _ in range(N)))
    assert len({version.price.version for version, _ in results}) == 1
    assert sum(not replayed for _, replayed in results) == 1


async def test_many_keys_at_once_make_one_unbroken_chain(pool: Pool, conn: Connection) -> None:
    """By hand, too: whoever inserts waits for the one before, and gets a later number."""
    before = await conn.fetchval("SELECT count(*) FROM price_versions")

    async def one(number: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            if number % 2:
                await add(connection, number, generation_type=Type.TEXT)
            else:
                await connection.execute(
                    "INSERT INTO price_versions (type, unit_credits, created_by) "
                    "VALUES ('text', $1, 'me'), ('text', 1, 'me')",
                    number,
                )

    await asyncio.gather(*(one(number) for number in range(N)))
    assert await conn.fetchval("SELECT count(*) FROM price_versions") == before + N + N // 2
    assert await conn.fetch(BROKEN_LINKS) == []


async def test_a_version_is_numbered_after_the_one_that_it_waited_for(pool: Pool, conn: Connection) -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("SELECT price_versions_queue()")
        waiting = asyncio.create_task(add(second, generation_type=Type.TEXT))
        while not await conn.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)
        early = await add(first, generation_type=Type.TEXT)
        await transaction.commit()
        late = await waiting
    assert early.price.version < late.price.version
    assert late.created_at > early.created_at


async def test_a_stale_snapshot_cannot_fork_the_chain(pool: Pool, conn: Connection) -> None:
    async with pool.acquire() as other:
        transaction = conn.transaction(isolation="repeatable_read")
        await transaction.start()
        await conn.fetchval("SELECT count(*) FROM price_versions")
        await add(other, generation_type=Type.TEXT)
        with pytest.raises(asyncpg.UniqueViolationError, match="does_not_fork"):
            await add(conn, generation_type=Type.TEXT)
        await transaction.rollback()


async def test_a_number_cannot_be_slipped_in_behind(draft: Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await draft.execute(
            "INSERT INTO price_versions (version, type, unit_credits, created_by) OVERRIDING SYSTEM VALUE "
            "VALUES (0, 'text', 1, 'me')"
        )
    assert refused.value.sqlstate == "TW008"


async def test_a_version_follows_the_last_one_whatever_it_says(draft: Connection) -> None:
    await draft.execute(
        "INSERT INTO price_versions (type, unit_credits, created_by, previous_hash, hash) "
        "VALUES ('text', 1, 'me', sha256('x'), sha256('y'))"
    )
    assert await draft.fetch(BROKEN_LINKS) == []


EDITS = {
    "price": "UPDATE price_versions SET unit_credits = unit_credits + 1 WHERE version = $1",
    "type": "UPDATE price_versions SET type = 'text' WHERE version = $1",
    "endpoint": "UPDATE price_versions SET endpoint = 'slow' WHERE version = $1",
    "tiers": "UPDATE price_versions SET batch_multipliers = '[]' WHERE version = $1",
    "surcharges": "UPDATE price_versions SET surcharges = '[]' WHERE version = $1",
    "time": "UPDATE price_versions SET effective_at = effective_at + interval '1 microsecond' WHERE version = $1",
    "added": "UPDATE price_versions SET created_at = created_at - interval '1 day' WHERE version = $1",
    "who": "UPDATE price_versions SET created_by = 'somebody else' WHERE version = $1",
    "note": "UPDATE price_versions SET note = NULL WHERE version = $1",
    "hash": "UPDATE price_versions SET hash = sha256('x') WHERE version = $1",
}


async def rich(connection: Connection) -> int:
    """A version with something in every column, and one after it."""
    tiers = [{"min_batch": 4, "multiplier_permille": 900}]
    version = await add(connection, endpoint="fast", batch_multipliers=tiers, surcharges=[STEPS], note="why")
    await add(connection)
    return version.price.version


@pytest.mark.parametrize("edit", EDITS)
async def test_an_edited_version_is_named(draft: Connection, edit: str) -> None:
    version = await rich(draft)
    assert await draft.fetch(BROKEN_LINKS) == []
    await draft.execute("SET LOCAL session_replication_role = replica")
    assert await draft.execute(EDITS[edit], version) == "UPDATE 1"
    assert version in [row["version"] for row in await draft.fetch(BROKEN_LINKS)]


async def test_a_price_that_was_put_back_on_the_list_is_named(draft: Connection) -> None:
    gone = (await add(draft, endpoint="fast", unit_credits=0, withdrawn=True)).price.version
    assert await draft.fetch(BROKEN_LINKS) == []
    await draft.execute("SET LOCAL session_replication_role = replica")
    await draft.execute("UPDATE price_versions SET withdrawn = false WHERE version = $1", gone)
    assert [row["version"] for row in await draft.fetch(BROKEN_LINKS)] == [gone]


async def test_a_deleted_version_is_missed_by_the_next(draft: Connection) -> None:
    version = await rich(draft)
    await draft.execute("SET LOCAL session_replication_role = replica")
    await draft.execute("DELETE FROM price_versions WHERE version = $1", version)
    assert [row["version"] for row in await draft.fetch(BROKEN_LINKS)] == [version + 1]
