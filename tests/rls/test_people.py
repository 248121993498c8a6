"""What a session of `authenticated` sees and may do, over every table there is."""

from collections.abc import Sequence
from datetime import UTC, datetime

import asyncpg
import pytest

from shared import ledger
from shared.database import Connection
from tests.rls.catalog import decisions, withheld
from tests.rls.conftest import claims_of, session

People = tuple[str, str]
REFUSED = asyncpg.InsufficientPrivilegeError
MALFORMED = asyncpg.InvalidTextRepresentationError


async def tables(owner: Connection, *decided: str) -> list[str]:
    return [table for table, access in (await decisions(owner)).items() if access in decided]


async def count(connection: Connection, table: str, user_id: str | None = None) -> int:
    own = "user_id = $1" if user_id else "true"
    found: int = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE {own}", *([user_id] if user_id else []))  # noqa: S608
    return found


async def test_each_sees_all_of_their_own_rows_and_no_other(owner: Connection, people: People) -> None:
    person, other = people
    for table in await tables(owner, "own rows"):
        mine, theirs = await count(owner, table, person), await count(owner, table, other)
        assert mine > 0, f"somebody() in conftest.py gives nobody a row in {table}"
        async with session(owner, claims=claims_of(person)):
            assert await count(owner, table) == await count(owner, table, person) == mine, table
            assert await count(owner, table, other) == 0, table
        async with session(owner, claims=claims_of(other)):
            assert await count(owner, table) == theirs, table


async def test_what_is_for_everybody_is_seen_whole(owner: Connection, people: People) -> None:
    for table in await tables(owner, "everybody signed in"):
        everything = await count(owner, table)
        async with session(owner, claims=claims_of(people[0])):
            assert await count(owner, table) == everything > 0, table


async def test_what_is_withheld_is_refused_and_the_rest_is_read(owner: Connection, people: People) -> None:
    closed = await withheld(owner)
    assert closed == {"credit_entries": {"actor"}, "price_versions": {"created_by", "note"}}
    for table, columns in closed.items():
        rows = await owner.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            " AND NOT attisdropped",
            table,
        )
        assert {row[0] for row in rows} > columns
        for wanted in (*columns, "*", f"{table}::text", f"to_jsonb({table})"):
            statement = f"SELECT {wanted} FROM {table}"  # noqa: S608
            assert await refused(owner, statement, claims=claims_of(people[0])), statement
        async with session(owner, claims=claims_of(people[0])):
            named = ", ".join(row[0] for row in rows if row[0] not in columns)
            assert await owner.fetch(f"SELECT {named} FROM {table}")  # noqa: S608


async def refused(owner: Connection, statement: str, *, role: str = "authenticated", claims: str | None) -> bool:
    async with session(owner, role, claims):
        try:
            await owner.execute(statement)
        except REFUSED:
            return True
    return False


async def allowed(
    owner: Connection, statements: Sequence[str], *, role: str = "authenticated", claims: str | None
) -> list[str]:
    return [statement for statement in statements if not await refused(owner, statement, role=role, claims=claims)]


async def test_nothing_is_written(owner: Connection, people: People) -> None:
    statements = []
    for table in await decisions(owner):
        column = await owner.fetchval(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            " AND attidentity = '' AND attgenerated = '' LIMIT 1",
            table,
        )
        statements += [
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {column} = {column}",  # noqa: S608
            f"DELETE FROM {table}",  # noqa: S608
            f"TRUNCATE {table} CASCADE",
            f"SELECT 1 FROM {table} FOR UPDATE",  # noqa: S608
            f"COPY {table} FROM STDIN",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY",
        ]
    assert await allowed(owner, statements, claims=claims_of(people[0])) == []
    for role in ("anon", "service_role"):
        assert await allowed(owner, statements, role=role, claims=claims_of(people[0])) == []


async def test_what_is_the_servers_is_not_even_read(owner: Connection, people: People) -> None:
    statements = [f"SELECT 1 FROM {table}" for table in await tables(owner, "server only")]  # noqa: S608
    assert await allowed(owner, statements, claims=claims_of(people[0])) == []


async def test_whoever_is_not_signed_in_reads_nothing(owner: Connection, people: People) -> None:
    statements = [f"SELECT 1 FROM {table}" for table in await decisions(owner)]  # noqa: S608
    statements.append(f"SELECT ledger_balance('{people[0]}')")
    assert await allowed(owner, statements, role="anon", claims=claims_of(people[0])) == []


@pytest.mark.parametrize(
    "claims",
    [
        None,
        "",
        "{}",
        "null",
        "[]",
        '"{person}"',
        '{"sub": null}',
        '{"sub": ""}',
        '{"sub": "nobody"}',
        '{"sub": ["{person}"]}',
        '{"sub": "{person} "}',
        '{"sub": "%"}',
        '{"user_id": "{person}"}',
    ],
)
async def test_claims_that_name_nobody_show_nothing(owner: Connection, people: People, claims: str | None) -> None:
    given = claims.replace("{person}", people[0]) if claims is not None else None
    for table in await tables(owner, "own rows"):
        async with session(owner, claims=given):
            assert await count(owner, table) == 0, table


async def test_claims_are_found_where_supabase_looks_for_them(owner: Connection, people: People) -> None:
    """auth.jwt() looks at request.jwt.claim first, then at request.jwt.claims."""
    person, other = people
    async with session(owner, claims=claims_of(person)):
        await owner.execute("SELECT set_config('request.jwt.claim', $1, true)", claims_of(other))
        assert [row[0] for row in await owner.fetch("SELECT user_id FROM user_billing")] == [other]


@pytest.mark.parametrize("claims", ["{", "user_1", "{'sub': 'x'}", '{"sub": "x"} '])
async def test_claims_that_are_no_json_are_an_error_or_nobody(owner: Connection, people: People, claims: str) -> None:
    for table in await tables(owner, "own rows"):
        async with session(owner, claims=claims):
            try:
                assert await count(owner, table) == 0, table
            except MALFORMED:
                assert not claims.endswith(" ")


async def test_the_ledger_answers_about_oneself_only(owner: Connection, people: People) -> None:
    person, other = people
    mine = await ledger.balance(owner, user_id=person)
    now = datetime.now(UTC)
    books = await ledger.books_at(owner, user_id=person, at=now)
    async with session(owner, claims=claims_of(person)):
        assert await ledger.balance(owner, user_id=person) == mine
        assert (await ledger.decide(owner, user_id=person, amount=1)).balance == mine
        assert [bucket.source_ref for bucket in await ledger.buckets(owner, person)] == ["start"]
        assert await ledger.books_at(owner, user_id=person, at=now) == books
        assert books.posted == 11
        # As somebody whom the ledger has not met.
        assert await ledger.balance(owner, user_id=other) == await ledger.balance(owner, user_id="nobody")
        assert await ledger.buckets(owner, other) == []


async def test_functions_that_write_are_not_called(owner: Connection, people: People) -> None:
    """Whatever Postgres would let write; those it would not are all that may be called."""
    writing = await owner.fetch(
        "SELECT format('SELECT public.%I(%s)', proname, ("
        "   SELECT string_agg(format('NULL::%s', format_type(a, NULL)), ', ') FROM unnest(proargtypes) a"
        " )) FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND provolatile = 'v' AND prorettype <> 'trigger'::regtype"
    )
    assert len(writing) > 10
    for role in ("authenticated", "service_role"):
        assert await allowed(owner, [row[0] for row in writing], role=role, claims=claims_of(people[0])) == []


async def plan(owner: Connection, statement: str, claims: str) -> str:
    async with session(owner, "none", claims):
        # The tables are small here; in life they are not.
        await owner.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        await owner.execute("SET LOCAL ROLE authenticated")
        return "\n".join(row[0] for row in await owner.fetch(f"EXPLAIN {statement}"))


async def test_a_policy_asks_once_and_looks_by_an_index(owner: Connection, people: People) -> None:
    # These are only ever looked for by what they belong to.
    within = {
        "generation_transitions": "generation_id",
        "generation_chunks": "generation_id",
    }
    for table in await tables(owner, "own rows"):
        key = within.get(table)
        found = f" WHERE {key} = '00000000-0000-0000-0000-000000000000'" if key else ""
        shown = await plan(owner, f"SELECT user_id FROM {table}{found}", claims_of(people[0]))  # noqa: S608
        assert "InitPlan" in shown, shown
        assert "Seq Scan" not in shown, shown
        assert f"Index Cond: ({key or 'user_id'} = " in shown, shown
        calls = [
            line for line in shown.splitlines() if "Filter" in line and ("current_setting" in line or "jwt" in line)
        ]
        assert calls == []
