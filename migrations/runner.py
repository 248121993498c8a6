"""Applies the SQL files of this folder: each once, in order, whole or not at all, however many start at once."""

import re
from collections.abc import Sequence

import asyncpg

from shared.database import Connection
from shared.schema import Migration, SchemaError, known_migrations, schema_status

# An arbitrary but fixed number: everybody who migrates this database queues up on it.
_ADVISORY_LOCK = 7_430_212_611

_WAIT_FOR_OTHERS = "SET LOCAL lock_timeout = '300s'; SET LOCAL statement_timeout = '900s'"
# A table that production is using must not be queued for longer than this: everybody else queues behind us.
_WAIT_FOR_TABLES = "SET LOCAL lock_timeout = '10s'"

_HISTORY_COMPLETE = """
SELECT count(*) = 3 FROM information_schema.columns
 WHERE table_schema = 'supabase_migrations' AND table_name = 'schema_migrations'
   AND column_name IN ('statements', 'name', 'checksum')
"""
_CREATE_HISTORY = """
CREATE SCHEMA IF NOT EXISTS supabase_migrations;
CREATE TABLE IF NOT EXISTS supabase_migrations.schema_migrations (version text PRIMARY KEY);
ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS statements text[];
ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS name text;
ALTER TABLE supabase_migrations.schema_migrations ADD COLUMN IF NOT EXISTS checksum text;
"""
_RECORD = """
INSERT INTO supabase_migrations.schema_migrations (version, statements, name, checksum)
VALUES ($1, ARRAY[$2], $3, $4)
"""
_ADOPT = """
UPDATE supabase_migrations.schema_migrations SET checksum = $2 WHERE version = $1 AND checksum IS NULL
"""

# PL/pgSQL writes BEGIN without a semicolon, so these are statements that would end our transaction.
_TRANSACTION_CONTROL = re.compile(
    r"^\s*(begin|commit|rollback|start\s+transaction)(\s+(work|transaction))?\s*;", re.IGNORECASE | re.MULTILINE
)


class MigrationFailed(SchemaError):
    """A file was refused by Postgres; nothing of it stayed. The message names the file and the line."""


async def migrate(connection: Connection, known: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing and return its names, oldest first.

    SchemaError (by name: newer than the code, changed, out of order, failed) leaves everything before the
    offending file applied and nothing of the file itself.
    """
    expected = known_migrations() if known is None else known
    applied: list[str] = []
    while True:
        done = await _apply_next(connection, expected)
        if done is None:
            return applied
        applied.append(done)


async def _apply_next(connection: Connection, known: Sequence[Migration]) -> str | None:
    # The lock ends with its transaction, so it also works through a transaction pooler; that is why the
    # history is read anew for every file.
    async with connection.transaction():
        await connection.execute(_WAIT_FOR_OTHERS)
        await connection.execute(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        await connection.execute(_WAIT_FOR_TABLES)
        if not await connection.fetchval(_HISTORY_COMPLETE):
            await connection.execute(_CREATE_HISTORY)
        status = (await schema_status(connection, known)).refuse_misfit()
        for adopted in status.adoptable:
            await connection.execute(_ADOPT, adopted.version, adopted.checksum)
        if not status.pending:
            return None
        await _apply(connection, status.pending[0])
        return status.pending[0].label


async def _apply(connection: Connection, migration: Migration) -> None:
    control = _TRANSACTION_CONTROL.search(migration.sql)
    if control is not None:
        line = _line_at(migration.sql, control.start(1))
        raise MigrationFailed(f"{migration.label}, line {line}: a migration may not begin or end transactions")
    try:
        await connection.execute(migration.sql)
    except asyncpg.PostgresError as error:
        place = migration.label
        if error.position is not None:
            place += f", line {_line_at(migration.sql, int(error.position) - 1)}"
        raise MigrationFailed(f"{place}: {error}") from error
    await connection.execute(_RECORD, migration.version, migration.sql, migration.name, migration.checksum)


def _line_at(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1
