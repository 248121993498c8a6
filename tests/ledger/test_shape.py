"""What the money is made of, and what an operation costs: whole numbers, one round trip, no step without need."""

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any
from uuid import uuid4

import pytest

from shared import corrections, ledger, plans
from shared.database import Connection
from tests.ledger.teller import NOON, Teller
from tests.ledger.wire import overheard

TABLES = r"^(credit_|user_billing$|price_versions$|ledger_)"
FUNCTIONS = r"^(ledger|prices)_"
PARTS = """
SELECT format('%s.%s is %s', c.relname, a.attname, format_type(a.atttypid, NULL)) AS what, a.atttypid AS type
FROM pg_class c INNER JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'c', 'v', 'm') AND c.relname ~ $1
UNION ALL
SELECT format('%s has %s', p.oid::regprocedure, format_type(t.type, NULL)), t.type
FROM pg_proc p CROSS JOIN unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) AS t (type)
WHERE p.pronamespace = 'public'::regnamespace AND p.proname ~ $2
"""
# An array is what it is of, and a domain what it is over.
INEXACT = f"""
WITH RECURSIVE parts AS (
    {PARTS}
    UNION ALL
    SELECT parts.what, coalesce(nullif(t.typbasetype, 0), t.typelem) FROM parts
    INNER JOIN pg_type t ON t.oid = parts.type AND (t.typbasetype <> 0 OR t.typelem <> 0)
)
SELECT DISTINCT what FROM parts
WHERE type = ANY ('{{numeric,float4,float8,money,numrange,nummultirange}}'::regtype[])
"""  # noqa: S608
COUNTED = """
SELECT relname::text AS name, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
FROM pg_stat_xact_user_tables
UNION ALL
SELECT funcname, calls, 0, 0 FROM pg_stat_xact_user_functions
"""


async def test_no_column_argument_or_answer_is_a_float_or_numeric(conn: Connection) -> None:
    named = {row["what"] for row in await conn.fetch(PARTS, TABLES, FUNCTIONS)}
    assert {"user_billing.posted is bigint", "ledger_movement.amount is bigint"} <= named
    assert [row["what"] for row in await conn.fetch(INEXACT, TABLES, FUNCTIONS)] == []


@pytest.mark.parametrize(
    "made",
    [
        "ALTER TABLE credit_entries ADD COLUMN new numeric(20, 2)",
        "CREATE DOMAIN part AS double precision; ALTER TABLE price_versions ADD COLUMN new part[]",
        "CREATE FUNCTION ledger_new(bigint, OUT real) LANGUAGE sql AS 'SELECT 1::real'",
        "CREATE FUNCTION ledger_new() RETURNS TABLE (rate numeric) LANGUAGE sql AS 'SELECT 1.0'",
        "CREATE TYPE ledger_new AS (amount numeric)",
    ],
)
async def test_one_that_were_is_named(conn: Connection, made: str) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(made)
    assert len(await conn.fetch(INEXACT, TABLES, FUNCTIONS)) == 1
    await transaction.rollback()


Calls = dict[str, Callable[[], Awaitable[Any]]]


def operations() -> set[str]:
    """What the ledger's modules do, each by one function of the database or one statement."""
    return {
        f"{module.__name__.removeprefix('shared.')}.{name}"
        for module in (ledger, corrections, plans)
        for name, one in vars(module).items()
        if inspect.iscoroutinefunction(one) and one.__module__ == module.__name__ and not name.startswith("_")
    } - {"ledger.call"}


async def every_call(conn: Connection) -> Calls:
    """One of each, on the account of somebody who has holds and purchases."""
    teller = await Teller(conn).open(plan="free", overdraft_limit=9)
    await teller.grant(100, ref="bought")
    to_charge, to_release, charged = [await teller.hold(5, lasts=2) for _ in range(3)]
    await teller.capture(charged, 5)
    user: dict[str, Any] = {"user_id": teller.user_id}
    now: dict[str, Any] = {"now": teller.now}
    return {
        "ledger.open_account": lambda: ledger.open_account(conn, user_id=str(uuid4())),
        "ledger.grant": lambda: teller.grant(10, "promo"),
        "ledger.reserve": lambda: teller.reserve(5),
        "ledger.capture": lambda: teller.capture(to_charge, 3),
        "ledger.release": lambda: teller.release(to_release),
        "ledger.refresh": lambda: ledger.refresh(conn, **user, **now),
        "ledger.expire": lambda: ledger.expire(conn, **user, **now),
        "ledger.expire_due": lambda: ledger.expire_due(conn, limit=10, now=NOON),
        "ledger.balance": lambda: ledger.balance(conn, **user, **now),
        "ledger.decide": lambda: ledger.decide(conn, amount=5, **user, **now),
        "ledger.buckets": lambda: ledger.buckets(conn, teller.user_id, teller.now),
        "ledger.books_at": lambda: ledger.books_at(conn, at=teller.now, **user),
        "ledger.crossings": lambda: ledger.crossings(conn, after=0, limit=10, **user),
        "corrections.adjust": lambda: teller.adjust(7),
        "corrections.reverse_grant": lambda: teller.reverse_grant("bought", 2),
        "corrections.reverse_charge": lambda: teller.reverse_charge(charged, 2),
        "plans.set_terms": lambda: teller.set_terms(overdraft_limit=20),
        "plans.set_plan": lambda: teller.plan(daily_credits=3),
        "plans.set_time_zone": lambda: plans.set_time_zone(
            conn, time_zone="Asia/Tokyo", actor=teller.user_id, **user, **now
        ),
        "plans.all_plans": lambda: plans.all_plans(conn),
        "plans.terms_of": lambda: plans.terms_of(conn, teller.user_id),
    }


async def test_every_operation_is_one_round_trip(conn: Connection, database_url: str) -> None:
    async with overheard(database_url) as (connection, turns):
        for call in (await every_call(connection)).values():
            await call()  # the driver prepares a statement, and looks its types up, once
        calls = await every_call(connection)
        assert calls.keys() == operations()
        for name, call in calls.items():
            before = turns.count
            await call()
            assert turns.count - before == 1, name
        before = turns.count
        async with connection.transaction():
            await ledger.balance(connection, user_id="nobody")
        assert turns.count - before == 3, "it would tell"


def floats(told: Any, where: str) -> list[str]:
    if is_dataclass(told) and not isinstance(told, type):
        told = asdict(told)
    if isinstance(told, Mapping):
        return [name for key, value in told.items() for name in floats(value, f"{where}.{key}")]
    if isinstance(told, list | tuple):
        return [name for value in told for name in floats(value, where)]
    return [where] if isinstance(told, float) else []


async def test_credits_are_integers_in_json_too(conn: Connection) -> None:
    """In what is answered, and in what is kept."""
    for name, call in (await every_call(conn)).items():
        assert floats(await call(), name) == []

    def refuse(number: str) -> None:
        raise AssertionError(number)

    columns = await conn.fetch(
        """SELECT c.relname, a.attname FROM pg_attribute a INNER JOIN pg_class c ON c.oid = a.attrelid
           WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname ~ $1
               AND a.attnum > 0 AND a.atttypid = 'jsonb'::regtype""",
        TABLES,
    )
    assert len(columns) >= 5
    for table, column in columns:
        for (kept,) in await conn.fetch(f"SELECT {column}::text FROM {table} WHERE {column} IS NOT NULL"):  # noqa: S608
            json.loads(kept, parse_float=refuse)


async def done(conn: Connection, act: Callable[[], Awaitable[Any]]) -> dict[str, tuple[int, int, int]]:
    """What an act came to in a transaction: rows (inserted, updated, deleted) by table, and calls by function."""
    async with conn.transaction():
        await conn.execute("SET LOCAL track_functions = 'all'")
        before = {row["name"]: tuple(row)[1:] for row in await conn.fetch(COUNTED)}
        await act()
        after = {row["name"]: tuple(row)[1:] for row in await conn.fetch(COUNTED)}
    nothing = (0, 0, 0)
    moved = {
        name: tuple(now - then for now, then in zip(counts, before.get(name, nothing), strict=True))
        for name, counts in after.items()
    }
    return {name: counts for name, counts in moved.items() if counts != nothing}


WHEN_DUE = {"ledger_tidy", "ledger_grant_daily", "ledger_fill"}
ONE_BUCKET = {
    "reserve": {
        "user_billing": (0, 1, 0),
        "credit_buckets": (0, 1, 0),
        "credit_holds": (1, 0, 0),
        "credit_entries": (1, 0, 0),
        "credit_operations": (1, 0, 0),
    },
    "settle": {
        "user_billing": (0, 1, 0),
        "credit_buckets": (0, 1, 0),
        "credit_holds": (0, 1, 0),
        "credit_entries": (1, 0, 0),
        "credit_operations": (1, 0, 0),
    },
}


def rows(counted: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    return {name: counts for name, counts in counted.items() if not name.startswith("ledger_")}


async def test_when_one_bucket_covers_it_and_nothing_is_due_no_more_is_done(teller: Teller, conn: Connection) -> None:
    """Each table is written once, whatever other buckets there are, and nothing that is for what is due is called."""
    await teller.open(plan=await teller.plan(daily_credits=2))
    await teller.look()
    await teller.grant(100, priority=0)
    for _ in range(20):
        await teller.grant(10, lasts=48)
    holds = []

    async def reserve() -> None:
        holds.append(await teller.hold(5, lasts=3))

    for act, expected in (
        (reserve, "reserve"),
        (reserve, "reserve"),
        (lambda: teller.capture(holds[0], 5), "settle"),
        (lambda: teller.release(holds[1]), "settle"),
    ):
        counted = await done(conn, act)
        assert rows(counted) == ONE_BUCKET[expected]
        assert not WHEN_DUE & counted.keys(), counted.keys()


async def test_what_is_due_is_done_and_is_seen_to_be(teller: Teller, conn: Connection) -> None:
    """So the test above would tell."""
    await teller.open(plan=await teller.plan(daily_credits=2))
    await teller.grant(100, priority=0)
    await teller.grant(10, lasts=1)
    counted = await done(conn, lambda: teller.reserve(5))
    assert "ledger_grant_daily" in counted
    assert "ledger_tidy" not in counted
    teller.after(2)
    counted = await done(conn, lambda: teller.reserve(5))
    assert "ledger_tidy" in counted
    assert "ledger_grant_daily" not in counted
    assert rows(counted) != ONE_BUCKET["reserve"]
