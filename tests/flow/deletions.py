"""Generations that are deleted: how a story makes one, lets the time pass, and looks for what is left."""

from typing import Any
from uuid import UUID

from tests.flow.world import Person, World, pictures
from worker import finish

WORDS = "a secret lighthouse"


async def made(world: World, person: Person, **body: Any) -> UUID:
    """A finished picture."""
    generation_id = await world.finishing(person, pictures(1), **{"prompt": WORDS, **body})
    await finish.finish_once(world.context)
    return generation_id


async def deleted(world: World, person: Person, **body: Any) -> UUID:
    """A finished picture that its person has deleted."""
    generation_id = await made(world, person, **body)
    reply = await person.http.delete(f"/v1/generations/{generation_id}")
    assert reply.status_code == 200, reply.text
    return generation_id


async def time_is_over(world: World) -> None:
    """Nobody can think again any more; and every lease of a purge is over."""
    await world.execute("UPDATE generations SET purge_due_at = now() WHERE purge_due_at IS NOT NULL")


def files(world: World) -> list[str]:
    return [path.name for path in (world.folder / "media").rglob("*") if path.is_file()]


async def assert_erased(world: World, generation_id: UUID) -> None:
    """Nothing of what was asked and made is anywhere; what the ledger stands on is."""
    assert files(world) == []
    async with world.context.pool.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM generations WHERE id = $1", generation_id)
        assert row is not None
        assert row["purged_at"] is not None
        assert (row["prompt"], row["parameters"], row["outputs"]) == ("", {}, [])
        assert (row["type"], row["quoted"], row["charged"], row["state"]) == ("image", 5, 5, "completed")
        assert row["finished_at"] is not None
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class AS c WHERE relnamespace = 'public'::regnamespace "
            "AND relkind = 'r'"
        )
        for table in tables:
            found = await connection.fetchval(
                f"SELECT count(*) FROM {table['name']} AS t WHERE t::text LIKE '%secret lighthouse%'"  # noqa: S608
            )
            assert found == 0, table["name"]
