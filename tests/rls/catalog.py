"""What is wrong with who may do what, read from pg_catalog: `await complaints(connection)`."""

from shared import sql
from shared.database import Connection

QUERIES = sql.load(__file__)


async def complaints(connection: Connection) -> list[str]:
    """A line for everything in `public` that was not decided, or is not as it was decided; empty when all is well."""
    return [row[0] for query in QUERIES.values() for row in await connection.fetch(query)]


async def decisions(connection: Connection) -> dict[str, str]:
    """Every table of `public`, and who reads it."""
    rows = await connection.fetch(
        "SELECT relname, substring(obj_description(oid, 'pg_class') FROM '^access: ([^.]+)\\.') AS decided"
        " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname"
    )
    return {row["relname"]: row["decided"] for row in rows}


async def withheld(connection: Connection) -> dict[str, set[str]]:
    """The columns that are kept back from whoever reads the table, by its decision."""
    rows = await connection.fetch(
        "SELECT relname,"
        " substring(obj_description(oid, 'pg_class') FROM '^access: [^.]+\\. Withheld: ([^.]+)\\.') AS names"
        " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {row["relname"]: set(row["names"].split(", ")) for row in rows if row["names"]}
