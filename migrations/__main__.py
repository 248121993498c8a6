"""`python -m migrations`: bring the database at DATABASE_URL up to date and say what was done."""

import asyncio
import os
import sys

import asyncpg

from migrations.runner import migrate
from shared.schema import SchemaError

_CONNECT_TIMEOUT_SECONDS = 10


async def _run(database_url: str) -> None:
    # No statement cache: the URL may lead to a transaction pooler.
    connection = await asyncpg.connect(database_url, timeout=_CONNECT_TIMEOUT_SECONDS, statement_cache_size=0)
    try:
        applied = await migrate(connection)
    finally:
        await connection.close()
    for name in applied:
        print(f"applied {name}")
    print("The schema is up to date." if applied else "The schema was up to date already.")


def main() -> int:
    """Return the exit code: 0 up to date, 1 refused or unreachable, 2 not told which database."""
    database_url = os.environ.get("DATABASE_URL", "")
    if not database_url:
        print("DATABASE_URL is not set: postgresql://user:password@host:5432/database", file=sys.stderr)
        return 2
    try:
        asyncio.run(_run(database_url))
    except SchemaError as error:
        print(f"Refused: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(f"The database could not be migrated: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
