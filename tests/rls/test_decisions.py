"""Every table, sequence, view and function of `public` is as somebody decided; the catalog says so, not a list here."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from shared.database import Connection
from tests.rls.catalog import complaints, decisions, withheld

NEW = "CREATE TABLE new (user_id text)"
DECIDED = f"{NEW}; SELECT access_to_table('new', 'own rows', 'A test.')"
VIEW = (
    "CREATE VIEW seen WITH (security_invoker = {}) AS SELECT * FROM generations; GRANT SELECT ON seen TO authenticated"
)


def policy(condition: str, *, how: str = "FOR SELECT TO authenticated") -> str:
    return f"{DECIDED}; DROP POLICY reading ON new; CREATE POLICY reading ON new {how} USING ({condition})"


@contextlib.asynccontextmanager
async def undone(owner: Connection) -> AsyncIterator[None]:
    """A transaction that is rolled back."""
    transaction = owner.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def test_everything_is_as_it_was_decided(owner: Connection) -> None:
    assert await complaints(owner) == []
    assert set((await decisions(owner)).values()) == {"own rows", "everybody signed in", "server only"}


async def test_a_migration_decides_for_its_table_in_one_line(owner: Connection) -> None:
    async with owner.transaction():
        await owner.execute(DECIDED)
        assert await complaints(owner) == []
        await owner.execute("SELECT access_to_table('new', 'server only', 'Decided anew.')")
        assert await complaints(owner) == []
        assert (await decisions(owner))["new"] == "server only"
        await owner.execute("DROP TABLE new")


EVERYTHING = """
CREATE TABLE new (id bigint GENERATED ALWAYS AS IDENTITY, number serial, user_id text, secret text);
GRANT ALL ON new TO PUBLIC, anon, authenticated, service_role;
GRANT ALL ON SEQUENCE new_id_seq, new_number_seq TO PUBLIC, anon, authenticated, service_role;
"""


@pytest.mark.parametrize("access", ["own rows", "everybody signed in", "server only"])
async def test_what_was_granted_before_is_taken_back(owner: Connection, access: str) -> None:
    async with undone(owner):
        await owner.execute(EVERYTHING)
        await owner.execute("SELECT access_to_table('new', $1, 'A test.', p_withheld => '{secret}')", access)
        assert await complaints(owner) == []
        read = "SELECT has_column_privilege('authenticated', 'new', $1, 'SELECT')"
        assert [await owner.fetchval(read, column) for column in ("user_id", "secret")] == [
            access != "server only",
            False,
        ]


@pytest.mark.parametrize(("granted", "reads"), [("ALL", True), ("SELECT", True), ("INSERT", False), (None, False)])
@pytest.mark.parametrize("access", ["own rows", "server only"])
async def test_the_servers_role_still_reads_what_it_read(
    owner: Connection, access: str, granted: str | None, *, reads: bool
) -> None:
    async with undone(owner):
        await owner.execute(NEW)
        if granted:
            await owner.execute(f"GRANT {granted} ON new TO service_role")
        await owner.execute("SELECT access_to_table('new', $1, 'A test.')", access)
        assert await owner.fetchval("SELECT has_table_privilege('service_role', 'new', 'SELECT')") == reads
        assert await complaints(owner) == []


async def test_all_that_is_withheld_is_told(owner: Connection) -> None:
    async with undone(owner):
        await owner.execute("CREATE TABLE new (user_id text, secret text, note text)")
        await owner.execute("SELECT access_to_table('new', 'own rows', 'A test.', p_withheld => '{secret,note}')")
        told = await owner.fetchval("SELECT obj_description('new'::regclass, 'pg_class')")
        assert told == "access: own rows. Withheld: secret, note. A test."
        assert (await withheld(owner))["new"] == {"secret", "note"}
        assert await complaints(owner) == []


async def test_there_are_three_decisions(owner: Connection) -> None:
    async with undone(owner):
        await owner.execute(NEW)
        with pytest.raises(asyncpg.RaiseError, match="there is no access"):
            await owner.execute("SELECT access_to_table('new', 'whoever asks', 'A test.')")


@pytest.mark.parametrize(
    ("name", "how", "readers"),
    [
        ("ledger_new", "STABLE", {"authenticated", "service_role"}),
        ("ledger_new", "IMMUTABLE", {"authenticated", "service_role"}),
        ("ledger_new", "VOLATILE", set()),
        ("ledger_new", "STABLE SECURITY DEFINER", set()),
        ("access_new", "VOLATILE", set()),
        *(
            (f"{what}_new", "STABLE", {"service_role"})
            for what in ("access", "generation", "generations", "price", "prices")
        ),
    ],
)
async def test_a_person_may_call_what_reads_the_ledger(
    owner: Connection, name: str, how: str, readers: set[str]
) -> None:
    async with undone(owner):
        await owner.execute(f"CREATE FUNCTION {name}() RETURNS integer LANGUAGE sql {how} AS 'SELECT 1'")
        await owner.execute(f"GRANT ALL ON FUNCTION {name} TO PUBLIC, anon, authenticated, service_role")
        await owner.execute("SELECT access_to_functions()")
        may = "SELECT has_function_privilege($1, $2, 'EXECUTE')"
        roles = ("anon", "authenticated", "service_role")
        assert {role for role in roles if await owner.fetchval(may, role, f"{name}()")} == readers


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (f"{NEW}; ALTER TABLE new ENABLE ROW LEVEL SECURITY", "new has no decision"),
        (f"{DECIDED}; COMMENT ON TABLE new IS 'access: own rows.'", "new has no decision"),
        (f"{DECIDED}; ALTER TABLE new DISABLE ROW LEVEL SECURITY", "new has no row-level security"),
        (f"{DECIDED}; GRANT INSERT ON new TO authenticated", "authenticated may INSERT new"),
        (f"{DECIDED}; GRANT UPDATE (user_id) ON new TO authenticated", "authenticated may UPDATE new"),
        (f"{DECIDED}; GRANT TRUNCATE ON new TO anon", "anon may TRUNCATE new"),
        (f"{DECIDED}; GRANT DELETE ON new TO PUBLIC", "anon may DELETE new"),
        (f"{DECIDED}; GRANT SELECT ON new TO anon", "anon may read new"),
        ("GRANT SELECT ON credit_operations TO authenticated", "authenticated may read credit_operations"),
        ("GRANT SELECT (key) ON idempotency_keys TO authenticated", "authenticated may read idempotency_keys"),
        (
            "GRANT SELECT ON credit_entries TO authenticated",
            "authenticated may not read {} of credit_entries, and it was d",
        ),
        (
            "GRANT SELECT (actor) ON credit_entries TO authenticated",
            "authenticated may not read {} of credit_entries, and",
        ),
        (
            "ALTER TABLE credit_entries ADD COLUMN new text",
            "authenticated may not read {actor,new} of credit_entries, and",
        ),
        ("REVOKE SELECT ON credit_buckets FROM authenticated", "authenticated may not read {bucket_id"),
        (f"{DECIDED}; GRANT INSERT ON new TO service_role", "service_role may INSERT new"),
        ("GRANT ALL ON credit_entries TO service_role", "service_role may UPDATE credit_entries"),
        ("GRANT USAGE ON SEQUENCE credit_buckets_bucket_id_seq TO service_role", "service_role may use credit_bu"),
        (
            "GRANT EXECUTE ON FUNCTION ledger_release(uuid, text, text, timestamptz) TO service_role",
            "service_role may call ledger_release(",
        ),
        (VIEW.format("false"), "authenticated may read seen"),
        (f"{DECIDED}; DROP POLICY reading ON new", "new has the policies none"),
        (
            "CREATE POLICY more ON webhook_receipts FOR SELECT TO authenticated USING (true)",
            "webhook_receipts has the policies more",
        ),
        (policy("(SELECT auth.jwt() ->> 'sub') = user_id", how="TO authenticated"), "new has the policies reading *"),
        (policy("(SELECT auth.jwt() ->> 'sub') = user_id", how="FOR SELECT"), "new has the policies reading r"),
        (policy("auth.jwt() ->> 'sub' = user_id"), "new has the policy ((auth.jwt()"),
        (policy("current_setting('request.jwt.claims') = user_id"), "new has the policy (current_setting("),
        (policy("(SELECT auth.jwt() ->> 'sub') IS NOT NULL"), "new has the policy (PERSON IS NOT NULL)"),
        (policy("lower((SELECT auth.jwt() ->> 'sub')) = user_id"), "new has the policy (lower(PERSON) = user_id)"),
        (policy("true"), "new has the policy true"),
        ("GRANT USAGE ON SEQUENCE credit_buckets_bucket_id_seq TO authenticated", "authenticated may use credit_bu"),
        ("CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'", "anon may call made()"),
        (
            "GRANT EXECUTE ON FUNCTION ledger_release(uuid, text, text, timestamptz) TO authenticated",
            "authenticated may call ledger_release(",
        ),
        (
            "ALTER FUNCTION ledger_balance(text, timestamptz) SECURITY DEFINER",
            "authenticated may call ledger_balance(",
        ),
    ],
)
async def test_what_is_not_is_named(owner: Connection, broken: str, complaint: str) -> None:
    async with undone(owner):
        await owner.execute(broken)
        named = await complaints(owner)
    assert any(line.startswith(complaint) for line in named), named


async def test_a_view_that_asks_as_whoever_looks_is_no_way_around(owner: Connection) -> None:
    async with undone(owner):
        await owner.execute(VIEW.format("true"))
        assert await complaints(owner) == []
