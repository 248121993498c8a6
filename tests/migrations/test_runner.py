"""Migrations: once, in order, whole or not at all, and never backwards."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from migrations.runner import MigrationFailed, migrate
from shared.database import Connection
from shared.schema import (
    Migration,
    MigrationChanged,
    MigrationOutOfOrder,
    SchemaNewerThanCode,
    SchemaOlderThanCode,
    SchemaState,
    known_migrations,
    read_migrations,
    require_current,
    schema_status,
)

ONE = Migration("20260101000001", "twin_one", "CREATE TABLE one (id int PRIMARY KEY);")
TWO = Migration("20260101000002", "twin_two", "CREATE TABLE two (id int REFERENCES one (id));")
BROKEN = Migration("20260101000003", "twin_broken", "CREATE TABLE three (id int);\nCREATE TABLE one (id int);")


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(empty_database_url)
    yield opened
    await opened.close()


async def tables(connection: Connection) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows}


async def history(connection: Connection) -> list[tuple[str, str | None]]:
    rows = await connection.fetch("SELECT version, name FROM supabase_migrations.schema_migrations ORDER BY version")
    return [(row["version"], row["name"]) for row in rows]


async def test_applies_in_order_and_a_second_run_finds_nothing_to_do(connection: Connection) -> None:
    assert await migrate(connection, [ONE, TWO]) == [ONE.label, TWO.label]
    assert await migrate(connection, [ONE, TWO]) == []
    assert await tables(connection) == {"one", "two"}
    assert await history(connection) == [(ONE.version, ONE.name), (TWO.version, TWO.name)]


async def test_what_supabase_reads_of_a_row_is_there(connection: Connection) -> None:
    await migrate(connection, [ONE])
    row = await connection.fetchrow("SELECT * FROM supabase_migrations.schema_migrations")
    assert row is not None
    assert (row["version"], row["name"], row["statements"]) == (ONE.version, ONE.name, [ONE.sql])


async def test_eight_starters_at_once_apply_each_file_once(empty_database_url: str) -> None:
    connections = [await asyncpg.connect(empty_database_url) for _ in range(8)]
    applied = await asyncio.gather(*(migrate(each, [ONE, TWO]) for each in connections))
    assert sorted(name for names in applied for name in names) == [ONE.label, TWO.label]
    assert await tables(connections[0]) == {"one", "two"}
    for each in connections:
        await each.close()


async def test_a_broken_file_leaves_nothing_of_itself_and_all_before_it(connection: Connection) -> None:
    with pytest.raises(MigrationFailed, match=r"20260101000003_twin_broken.*already exists"):
        await migrate(connection, [ONE, BROKEN])
    assert await tables(connection) == {"one"}
    assert await history(connection) == [(ONE.version, ONE.name)]


async def test_a_syntax_error_is_reported_with_its_line(connection: Connection) -> None:
    typo = Migration("20260101000001", "twin_typo", "SELECT 1;\n\nCREATE TABEL one ();")
    with pytest.raises(MigrationFailed, match="20260101000001_twin_typo, line 3"):
        await migrate(connection, [typo])


@pytest.mark.parametrize("statement", ["COMMIT", "begin transaction", "Rollback work", "START TRANSACTION"])
async def test_a_file_may_not_end_its_transaction(connection: Connection, statement: str) -> None:
    sly = Migration("20260101000001", "twin_sly", f"CREATE TABLE one ();\n{statement};\nSELECT 1;")
    with pytest.raises(MigrationFailed, match="line 2: a migration may not begin or end"):
        await migrate(connection, [sly])
    assert await tables(connection) == set()


async def test_a_function_body_is_not_transaction_control(connection: Connection) -> None:
    body = "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1;\nEND;\n$$;"
    await migrate(connection, [Migration("20260101000001", "twin_function", body)])
    assert await connection.fetchval("SELECT f()") == 1


async def test_a_changed_file_is_refused_by_name(connection: Connection) -> None:
    await migrate(connection, [ONE])
    edited = Migration(ONE.version, ONE.name, ONE.sql + " -- edited")
    with pytest.raises(MigrationChanged, match=ONE.label):
        await migrate(connection, [edited, TWO])
    assert await tables(connection) == {"one"}


async def test_line_endings_of_a_checkout_are_no_change(connection: Connection) -> None:
    unix = Migration(ONE.version, ONE.name, "SELECT 1;\nSELECT 2;\n")
    await migrate(connection, [unix])
    assert await migrate(connection, [Migration(ONE.version, ONE.name, unix.sql.replace("\n", "\r\n"))]) == []


async def test_a_version_recorded_under_another_name_is_refused(connection: Connection) -> None:
    await migrate(connection, [])
    await connection.execute(
        "INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ($1, 'add_profiles')",
        ONE.version,
    )
    with pytest.raises(MigrationChanged, match="add_profiles"):
        await migrate(connection, [ONE])


async def test_a_schema_newer_than_the_code_is_refused(connection: Connection) -> None:
    await migrate(connection, [ONE, TWO])
    with pytest.raises(SchemaNewerThanCode, match=TWO.label):
        await migrate(connection, [ONE])
    assert (await schema_status(connection, [ONE])).state is SchemaState.NEWER


async def test_a_file_older_than_what_is_applied_is_refused(connection: Connection) -> None:
    await migrate(connection, [TWO_ALONE])
    with pytest.raises(MigrationOutOfOrder, match=ONE.label):
        await migrate(connection, [ONE, TWO_ALONE])
    assert await tables(connection) == {"two"}


TWO_ALONE = Migration(TWO.version, TWO.name, "CREATE TABLE two (id int);")


async def test_a_history_begun_by_supabase_is_shared(connection: Connection) -> None:
    # As its CLI leaves it: no checksum column, other people's rows, and ours pushed by `supabase db push`.
    await connection.execute(
        "CREATE SCHEMA supabase_migrations;"
        "CREATE TABLE supabase_migrations.schema_migrations"
        " (version text PRIMARY KEY, statements text[], name text);"
        "INSERT INTO supabase_migrations.schema_migrations VALUES"
        " ('20250101000000', '{}', 'profiles'), ('20991231000000', '{}', 'later'), ('0', NULL, NULL)"
    )
    await connection.execute(ONE.sql)
    await connection.execute(
        "INSERT INTO supabase_migrations.schema_migrations VALUES ($1, '{}', $2)", ONE.version, ONE.name
    )
    assert (await schema_status(connection, [ONE, TWO])).pending == (TWO,)
    assert await migrate(connection, [ONE, TWO]) == [TWO.label]
    with pytest.raises(MigrationChanged, match=ONE.label):
        await migrate(connection, [Migration(ONE.version, ONE.name, "-- not what was adopted"), TWO])


async def test_readiness_reads_without_writing(connection: Connection) -> None:
    assert (await schema_status(connection, [ONE])).state is SchemaState.PENDING
    assert await connection.fetchval("SELECT to_regnamespace('supabase_migrations')") is None
    await migrate(connection, [ONE])
    assert (await schema_status(connection, [ONE])).ready


async def test_our_own_files_bring_an_empty_database_up_to_date(connection: Connection) -> None:
    with pytest.raises(SchemaOlderThanCode, match="python -m migrations"):
        await require_current(connection)
    assert await migrate(connection) == [migration.label for migration in known_migrations()]
    assert (await schema_status(connection)).ready
    await require_current(connection)


def test_a_misnamed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "20260101_twin_short.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match=r"20260101_twin_short\.sql"):
        read_migrations(tmp_path)


def test_two_files_of_one_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "20260101000000_twin_a.sql").write_text("SELECT 1")
    (tmp_path / "20260101000000_twin_b.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match="share a version"):
        read_migrations(tmp_path)
