"""Roles and auth.jwt(): made where they are missing, left alone where they are, and by an owner who is no superuser."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from migrations.runner import MigrationFailed, migrate
from shared.database import Connection, prepare_connection
from tests.rls.catalog import complaints, decisions
from tests.rls.conftest import Server, claims_of, session, somebody

# What a Supabase project is like before it sees us: its roles, its schema auth under another owner, a jwt() of its own,
# and everything granted to everybody by default.
SUPABASE = """
CREATE ROLE supabase_auth_admin NOLOGIN;
CREATE ROLE anon NOLOGIN NOINHERIT;
CREATE ROLE authenticated NOLOGIN NOINHERIT;
CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
GRANT anon, authenticated, service_role TO owner;
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
SET ROLE supabase_auth_admin;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
  select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), ''))::jsonb -- theirs
$$;
RESET ROLE;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;
"""
THEIRS = """
SELECT (SELECT jsonb_agg(to_jsonb(r) - 'rolpassword' ORDER BY rolname) FROM pg_roles r)::text AS roles,
    (SELECT jsonb_agg(to_jsonb(m) ORDER BY roleid, member) FROM pg_auth_members m)::text AS members,
    (SELECT to_jsonb(n)::text FROM pg_namespace n WHERE nspname = 'auth') AS auth,
    (SELECT jsonb_agg(to_jsonb(p))::text FROM pg_proc p WHERE pronamespace = to_regnamespace('auth')) AS functions
"""


@contextlib.asynccontextmanager
async def prepared(server: Server, *, owner: str, first: str = "SELECT") -> AsyncIterator[Connection]:
    """A database of a login role with these rights, on which the superuser ran `first`; connected as that role."""
    async with server.connected("postgres") as superuser:
        await superuser.execute(f"CREATE ROLE owner LOGIN PASSWORD 'owner' {owner}")
        await superuser.execute("CREATE DATABASE twin OWNER owner")
    async with server.connected("twin") as superuser:
        await superuser.execute(first)
    async with server.connected("twin", "owner") as connection:
        yield connection


async def reads_as_a_person(connection: Connection) -> None:
    """What all of this is for: the owner takes the role, and sees one person's rows."""
    await prepare_connection(connection)
    person, other = await somebody(connection), await somebody(connection)
    async with session(connection, claims=claims_of(person)):
        seen = await connection.fetch("SELECT user_id FROM generations")
        assert [row["user_id"] for row in seen] == [person] != [other]
        assert await connection.fetchval("SELECT ledger_balance($1)", person)


async def test_an_owner_who_may_make_roles_makes_them(server: Server) -> None:
    async with prepared(server, owner="CREATEROLE") as connection:
        await migrate(connection)
        assert await complaints(connection) == []
        await reads_as_a_person(connection)
        made = await connection.fetch(
            "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles"
            " WHERE rolname = ANY ('{anon,authenticated,service_role}') ORDER BY rolname"
        )
    # Only who passes row-level security may let another do so.
    assert [tuple(row) for row in made] == [
        (name, False, False, False) for name in ("anon", "authenticated", "service_role")
    ]


async def test_another_database_of_the_server_finds_them(server: Server) -> None:
    async with prepared(server, owner="CREATEROLE CREATEDB") as connection:
        await migrate(connection)
        await connection.execute("CREATE DATABASE second")
    async with server.connected("second", "owner") as second:
        await migrate(second)
        assert await complaints(second) == []
        await reads_as_a_person(second)


async def test_databases_that_migrate_at_once_do_not_trip_over_each_other(server: Server) -> None:
    async def made(number: int) -> list[str]:
        async with server.connected(f"twin_{number}") as connection:
            await migrate(connection)
            return await complaints(connection)

    async with server.connected("postgres") as superuser:
        for number in range(6):
            await superuser.execute(f"CREATE DATABASE twin_{number}")
        assert await asyncio.gather(*(made(number) for number in range(6))) == [[]] * 6
        assert await superuser.fetchval("SELECT rolbypassrls FROM pg_roles WHERE rolname = 'service_role'")


async def test_as_on_supabase_theirs_is_left_and_what_they_granted_on_ours_is_taken_back(server: Server) -> None:
    async with prepared(server, owner="CREATEROLE", first=SUPABASE) as connection:
        before = await connection.fetchrow(THEIRS)
        await migrate(connection)
        assert await connection.fetchrow(THEIRS) == before
        assert await complaints(connection) == []
        await reads_as_a_person(connection)


@contextlib.asynccontextmanager
async def migrated_as_on_supabase(server: Server) -> AsyncIterator[Connection]:
    async with prepared(server, owner="CREATEROLE", first=SUPABASE) as connection:
        await migrate(connection)
        await prepare_connection(connection)
        yield connection


async def test_their_servers_role_reads_all_and_writes_nothing(server: Server) -> None:
    """By Supabase's defaults it may do everything: nothing of ours writes as it."""
    async with migrated_as_on_supabase(server) as connection:
        person = await somebody(connection)
        for statement in (
            "INSERT INTO user_billing (user_id) VALUES ('forger')",
            "UPDATE user_billing SET posted = 1000000",
            "DELETE FROM credit_entries",
            "TRUNCATE credit_entries",
            "UPDATE price_versions SET unit_credits = 0",
            "DELETE FROM idempotency_keys",
            f"SELECT ledger_grant('{person}', 'forged', 1000, 'paid', 'forged', 'forger')",
            "SELECT nextval('credit_buckets_bucket_id_seq')",
        ):
            async with session(connection, "service_role"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        async with session(connection, "service_role"):
            assert await connection.fetchval("SELECT actor FROM credit_entries WHERE user_id = $1", person)
            assert await connection.fetchval("SELECT ledger_balance($1)", person)
            for table in await decisions(connection):
                await connection.execute(f"SELECT * FROM {table}")  # noqa: S608


async def test_what_is_made_later_is_taken_back_there_too(server: Server) -> None:
    async with migrated_as_on_supabase(server) as connection:
        await connection.execute(
            "CREATE TABLE new (id bigint GENERATED ALWAYS AS IDENTITY, user_id text);"
            "CREATE FUNCTION ledger_new() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
        )
        named = await complaints(connection)
        for told in (
            "service_role may INSERT new",
            "service_role may use new_id_seq",
            "service_role may call ledger_new()",
        ):
            assert told in named
        await connection.execute(
            "SELECT access_to_table('new', 'own rows', 'A test.', p_withheld => '{id}'), access_to_functions()"
        )
        assert await complaints(connection) == []


ALL_ROLES = "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role;"
CLOSED_AUTH = """
CREATE SCHEMA auth;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
"""


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("SELECT", "owner may not make the role anon, which is missing.*CREATE ROLE anon NOLOGIN"),
        (ALL_ROLES, "owner may not take the role authenticated.*GRANT authenticated TO owner"),
        (
            ALL_ROLES + "GRANT authenticated TO owner;" + CLOSED_AUTH,
            "owner may not call auth.jwt.*GRANT USAGE ON SCHEMA auth TO owner",
        ),
        (
            ALL_ROLES + "GRANT authenticated TO owner;" + CLOSED_AUTH + "GRANT USAGE ON SCHEMA auth TO owner",
            "authenticated may not call auth.jwt.*GRANT USAGE ON SCHEMA auth TO authenticated",
        ),
    ],
)
async def test_what_cannot_be_done_is_said_with_what_to_do(server: Server, first: str, said: str) -> None:
    async with prepared(server, owner="", first=first) as connection:
        with pytest.raises(MigrationFailed, match=f"(?s)twin_row_level_security: .*{said}"):
            await migrate(connection)


async def test_an_owner_without_any_rights_needs_no_more_than_the_hint(server: Server) -> None:
    hint = (
        "CREATE ROLE anon NOLOGIN; CREATE ROLE authenticated NOLOGIN; CREATE ROLE service_role NOLOGIN;"
        " GRANT authenticated TO owner"
    )
    async with prepared(server, owner="", first=hint) as connection:
        await migrate(connection)
        assert await complaints(connection) == []
        await reads_as_a_person(connection)
