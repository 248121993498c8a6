"""Rows that cannot be: each rule of a row, broken alone, is refused by the database itself, whoever writes."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from shared import ledger
from shared.database import Connection, Pool
from tests.ledger.invariants import ask_before_commit
from tests.ledger.teller import Teller


@pytest_asyncio.fixture(loop_scope="module")
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """Somebody bought credits, was charged, has had one hold back, one late and one open; it is all rolled back."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        teller = Teller(connection)
        await ledger.grant(
            connection,
            user_id=teller.user_id,
            key="purchase",
            amount=100,
            kind="paid",
            source_ref="order",
            actor="till",
            expires_at=teller.now.replace(year=2030),
            paid_amount=500,
            paid_currency="EUR",
            now=teller.now,
        )
        await teller.capture(await teller.hold(10), 7)
        await teller.release(await teller.hold(5))
        late = await teller.hold(4)
        await teller.after(1).expire()
        await teller.capture(late, 3)
        await teller.hold(6)
        await ask_before_commit(connection)
        yield connection
        await transaction.rollback()


ACCOUNTS = {
    "a name of no characters": "INSERT INTO user_billing (user_id) VALUES ('')",
    "a name of too many": "INSERT INTO user_billing (user_id) VALUES (repeat('x', 256))",
    "less held than nothing": "UPDATE user_billing SET held = -1",
    "more held than there is": "UPDATE user_billing SET held = posted + 1",
    "less than no debt": "UPDATE user_billing SET overdraft_used = -1",
    "less than no promised debt": "UPDATE user_billing SET overdraft_held = -1",
    "a limit below nothing": "UPDATE user_billing SET overdraft_limit = -1",
    "a threshold below nothing": "UPDATE user_billing SET low_balance_threshold = -1",
    "a warning below none": "UPDATE user_billing SET warned = -1",
    "a warning above all": "UPDATE user_billing SET warned = 3",
    "nowhere": "UPDATE user_billing SET time_zone = ''",
    "an entry before the first": "UPDATE user_billing SET seq = -1",
    "half a hash": "UPDATE user_billing SET head_hash = '\\x00'",
}
BUCKETS = {
    "a grant of nothing": "UPDATE credit_buckets SET granted = 0, remaining = 0, held = 0, live = false",
    "less than nothing left": "UPDATE credit_buckets SET remaining = -1, held = 0, live = false",
    "less than nothing held": "UPDATE credit_buckets SET remaining = 0, held = -1, live = false",
    "something left and not live": "UPDATE credit_buckets SET live = false",
    "nothing left and live": "UPDATE credit_buckets SET remaining = 0, held = 0",
    "more than was granted": "UPDATE credit_buckets SET remaining = granted, held = 1",
    "an end at the beginning": "UPDATE credit_buckets SET expires_at = effective_at",
    "from nowhere": "UPDATE credit_buckets SET source_ref = ''",
    "from too far": "UPDATE credit_buckets SET source_ref = repeat('x', 256)",
    "money in no currency": "UPDATE credit_buckets SET paid_currency = NULL",
    "a currency of no money": "UPDATE credit_buckets SET paid_amount = NULL",
    "a promotion that was paid for": "UPDATE credit_buckets SET kind = 'promo'",
    "less than no money": "UPDATE credit_buckets SET paid_amount = -1",
    "money in any words": "UPDATE credit_buckets SET paid_currency = 'euro'",
}
_STATES = {
    "open": {
        "charged": "captured = 1",
        "given back": "released = 1",
        "settled": "settled_at = now()",
        "final": "final = true",
        "late": "late = true",
        "charged late": "late_captured = 1",
        "without a first entry": "first_seq = NULL",
        "without a last entry": "last_seq = NULL",
        "from before the first": "first_seq = 0",
        "for nothing": "last_seq = first_seq - 1",
        "for nothing, with an entry": "quoted = 0",
    },
    "captured": {
        "for more than the quote": "released = released + 1",
        "at no time": "settled_at = NULL",
        "and yet to come": "final = false",
    },
    "released": {
        "late": "late = true",
        "and charged": "captured = 1, released = quoted - 1",
        "and charged on top": "captured = 1",
        "in part": "released = quoted - 1",
        "at no time": "settled_at = NULL",
        "and yet to come": "final = false",
    },
    "expired": {
        "and charged in time": "captured = 1, released = quoted - 1",
        "and charged in time on top": "captured = 1",
        "in part": "released = quoted - 1",
        "at no time": "settled_at = NULL",
    },
}
HOLDS = {
    "of less than nothing": "UPDATE credit_holds SET quoted = -1, last_seq = first_seq - 1 WHERE state = 'open'",
    "charged less than nothing": (
        "UPDATE credit_holds SET captured = -1, released = quoted + 1 WHERE state = 'captured'"
    ),
    "given back less than nothing": (
        "UPDATE credit_holds SET captured = quoted + 1, released = -1 WHERE state = 'captured'"
    ),
    "charged late less than nothing": "UPDATE credit_holds SET late_captured = -1 WHERE late",
    "before the first round": "UPDATE credit_holds SET round = 0",
    "without a price": "UPDATE credit_holds SET price = '[]'",
    "late and in time": "UPDATE credit_holds SET late = true WHERE state = 'captured'",
    "late and yet to come": "UPDATE credit_holds SET final = false WHERE late",
    "late for more than the quote": "UPDATE credit_holds SET late_captured = quoted + 1 WHERE late",
    "charged late in time": "UPDATE credit_holds SET late_captured = 1 WHERE state = 'captured'",
    **{
        f"{state} {what}": f"UPDATE credit_holds SET {change} WHERE state = '{state}'"  # noqa: S608
        for state, changes in _STATES.items()
        for what, change in changes.items()
    },
}
_ENTRY = {
    "before the first": "seq = 0",
    "long before the first": "seq = -1",
    "of nothing": "amount = 0",
    "from one leg to itself": "from_leg = 'revenue', to_leg = 'revenue', bucket_id = NULL",
    "of no bucket": "bucket_id = NULL",
    "of a bucket that it does not touch": "from_leg = 'overdraft', to_leg = 'revenue'",
    "that leaves less than nothing": "posted_after = -1",
    "that leaves less than nothing held": "held_after = -1",
    "that leaves less than no debt": "overdraft_used_after = -1",
    "that leaves less than no promised debt": "overdraft_held_after = -1",
    "for a list of reasons": "detail = '[]'",
    "with half a hash": "hash = '\\x00'",
}

_OPERATION = (
    "INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at) "
    "VALUES ('me', {key}, 'capture', {request_hash}, '{{}}', now())"
)
_ACT = (
    "INSERT INTO credit_operations (scope, key, kind, request_hash, outcome, created_at, act_seq, act_hash) "
    "VALUES ('me', {key}, '{kind}', sha256(''), '{{}}', now(), {act_seq}, {act_hash})"
)
OPERATIONS = {
    "a key of no characters": _OPERATION.format(key="''", request_hash="sha256('')"),
    "a key of too many": _OPERATION.format(key="repeat('x', 256)", request_hash="sha256('')"),
    "half a hash": _OPERATION.format(key="'k'", request_hash="'\\x00'"),
    "an act outside the chain": _ACT.format(key="'k'", kind="set-terms", act_seq="NULL", act_hash="NULL"),
    "work in the chain": _ACT.format(key="'k'", kind="capture", act_seq="1", act_hash="sha256('')"),
    "an act without a seal": _ACT.format(key="'k'", kind="set-terms", act_seq="1", act_hash="NULL"),
}

_PLAN = "INSERT INTO credit_plans (plan, {column}) VALUES ('p', {value})"
PLANS = {
    "a name of no characters": "INSERT INTO credit_plans (plan) VALUES ('')",
    "a name of too many": "INSERT INTO credit_plans (plan) VALUES (repeat('x', 65))",
    **{
        f"{column} {value}": _PLAN.format(column=column, value=value)
        for column, values in {
            "daily_credits": (-1, 10**9 + 1),
            "overdraft_limit": (-1, 10**12 + 1),
            "low_balance_threshold": (-1, 10**12 + 1),
            "weight": (0, 1001),
            "max_in_flight": (0, 10_001),
        }.items()
        for value in values
    },
}
_WARNING = "INSERT INTO credit_warnings (user_id, code, available, at) SELECT user_id, {}, {}, now() FROM user_billing"
WARNINGS = {
    "a code of its own": _WARNING.format("'fire'", 1),
    "less than nothing left": _WARNING.format("'overdraft'", -1),
}

RULES = {
    **{f"an account with {name}": change for name, change in ACCOUNTS.items()},
    **{f"a bucket with {name}": change for name, change in BUCKETS.items()},
    **{f"a hold {name}": change for name, change in HOLDS.items()},
    **{f"an operation with {name}": change for name, change in OPERATIONS.items()},
    **{f"a plan with {name}": change for name, change in PLANS.items()},
    **{f"a warning with {name}": change for name, change in WARNINGS.items()},
}


@pytest.mark.parametrize("name", RULES)
async def test_the_row_is_impossible(conn: Connection, name: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute(RULES[name])


@pytest.mark.parametrize("name", _ENTRY)
async def test_the_entry_is_impossible(conn: Connection, name: str) -> None:
    await conn.execute("ALTER TABLE credit_entries DISABLE TRIGGER credit_entries_append_only")
    with pytest.raises(asyncpg.CheckViolationError):
        await conn.execute(f"UPDATE credit_entries SET {_ENTRY[name]} WHERE kind = 'reserve' AND seq = 2")  # noqa: S608


async def test_a_source_has_one_bucket_whoever_writes_it(conn: Connection) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        await conn.execute(
            "INSERT INTO credit_buckets (user_id, kind, granted, remaining, effective_at, source_ref, created_at) "
            "SELECT user_id, kind, 1, 1, effective_at, source_ref, created_at FROM credit_buckets"
        )


async def test_the_chain_of_acts_has_one_of_each_number(conn: Connection) -> None:
    act = _ACT.format(key="gen_random_uuid()", kind="set-terms", act_seq="1", act_hash="sha256('')")
    await conn.execute(act)
    await conn.execute(act.replace("'me'", "'somebody else'"))
    with pytest.raises(asyncpg.UniqueViolationError, match="credit_operations_chain"):
        await conn.execute(act)
