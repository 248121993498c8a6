"""Plans and terms: whose word counts, from the very next decision on, and quotes that submits always keep."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared import plans
from shared.database import Connection, Pool
from shared.errors import InvalidAmount, KeyReused, UnknownPlan
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.life import connect
from tests.ledger.teller import Teller, fresh
from tests.local.databases import wait_for


async def test_an_account_is_locked_as_it_is_on_its_terms(teller: Teller) -> None:
    plan = await teller.plan(policy="hard", overdraft_limit=5, low_balance_threshold=3)
    await teller.set_terms(plan=plan, overdraft_limit=9)
    await teller.grant(7)
    await teller.hold(2)
    # Column by column: ledger_lock names them all, by their place.
    ((locked, row),) = await teller.conn.fetch(
        "SELECT to_jsonb(ledger_lock(a.user_id)), to_jsonb(ledger_on_terms(a)) FROM user_billing a WHERE user_id = $1",
        teller.user_id,
    )
    assert locked == row
    assert (locked["policy"], locked["overdraft_limit"], locked["low_balance_threshold"]) == ("hard", 9, 3)


async def test_an_account_says_only_what_differs_from_its_plan(teller: Teller) -> None:
    plan = await teller.plan(policy="soft", overdraft_limit=5, low_balance_threshold=3)
    await teller.set_terms(plan=plan)
    assert (await teller.decide(5)).verdict == "warn"
    assert (await teller.decide(6)).reasons == ("overdraft-limit",)
    change = await teller.set_terms(overdraft_limit=9)
    assert (change.before, change.after) == (
        {"plan": plan, "policy": None, "overdraft_limit": None, "low_balance_threshold": None, "time_zone": "UTC"},
        {"plan": plan, "policy": None, "overdraft_limit": 9, "low_balance_threshold": None, "time_zone": "UTC"},
    )
    assert (await teller.reserve(6)).outcome == "held"
    await teller.set_terms(policy="hard")
    assert (await teller.reserve(1)).decision.reasons == ("insufficient-credits",)
    await teller.set_terms(policy=None, overdraft_limit=None)
    assert (await teller.decide(1)).reasons == ("overdraft-limit",)
    await teller.plan(name=plan, policy="off")
    assert (await teller.decide(10**9)).affordable is None
    terms = await plans.terms_of(teller.conn, teller.user_id)
    assert terms == plans.Terms(
        plan=plan, policy=None, overdraft_limit=None, low_balance_threshold=None, time_zone="UTC"
    )


async def test_the_threshold_of_the_plan_and_of_the_person(teller: Teller) -> None:
    plan = await teller.plan(low_balance_threshold=5)
    await teller.set_terms(plan=plan)
    await teller.grant(10)
    assert [(await teller.decide(amount)).verdict for amount in (5, 6)] == ["allow", "warn"]
    await teller.set_terms(low_balance_threshold=2)
    assert [(await teller.decide(amount)).verdict for amount in (8, 9)] == ["allow", "warn"]


async def test_a_plan_is_made_and_changed_and_every_change_is_on_record(conn: Connection) -> None:
    name = fresh("plan")
    set_plan: dict[str, Any] = {"plan": name, "key": fresh("k"), "reason": "launch", "actor": "admin"}
    made = await plans.set_plan(conn, terms={"daily_credits": 5, "weight": 3}, **set_plan)
    assert made.before is None
    again = await plans.set_plan(conn, terms={"weight": 3, "daily_credits": 5}, **set_plan)
    assert (again.replayed, again.after) == (True, made.after)
    with pytest.raises(KeyReused):
        await plans.set_plan(conn, terms={"daily_credits": 6}, **set_plan)
    changed = await plans.set_plan(conn, terms={"daily_credits": 6}, **{**set_plan, "key": fresh("k")})
    assert changed.before == made.after
    assert [plan for plan in await plans.all_plans(conn) if plan.plan == name] == [
        plans.Plan(
            plan=name,
            daily_credits=6,
            policy="soft",
            overdraft_limit=0,
            low_balance_threshold=10,
            weight=3,
            max_in_flight=None,
        )
    ]
    row = await conn.fetchrow(
        "SELECT actor, detail FROM credit_operations WHERE scope = 'plans' AND key = $1", set_plan["key"]
    )
    assert row is not None
    assert tuple(row) == ("admin", {"reason": "launch"})


@pytest.mark.parametrize(
    "terms",
    [
        {"overdraft_limit": -1},
        {"overdraft_limit": 10**12 + 1},
        {"overdraft_limit": 2**63},
        {"overdraft_limit": "many"},
        {"overdraft_limit": 1.5},
        {"low_balance_threshold": -1},
        {"low_balance_threshold": 10**12 + 1},
        {"policy": "maybe"},
        {"policy": ""},
    ],
)
async def test_bad_terms_change_nothing(teller: Teller, terms: dict[str, Any]) -> None:
    plan = await teller.plan()
    await teller.set_terms(plan=plan)
    for refused in (teller.set_terms(**terms), teller.plan(name=plan, **terms), teller.plan(**terms)):
        with pytest.raises(InvalidAmount):
            await refused
    assert (await teller.set_terms()).after == {
        "plan": plan,
        "policy": None,
        "overdraft_limit": None,
        "low_balance_threshold": None,
        "time_zone": "UTC",
    }


@pytest.mark.parametrize("terms", [{"daily_credits": -1}, {"daily_credits": 10**9 + 1}, {"weight": 0}])
async def test_a_bad_plan_is_not_made(teller: Teller, terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidAmount):
        await teller.plan(**terms)
    for name in ("", "p" * 65):
        with pytest.raises(InvalidAmount):
            await plans.set_plan(teller.conn, plan=name, key="k", terms={}, reason=None, actor="admin")


async def test_a_plan_that_is_not_there(teller: Teller) -> None:
    with pytest.raises(UnknownPlan):
        await teller.set_terms(plan=fresh("plan"))
    assert await plans.terms_of(teller.conn, teller.user_id) is None


async def test_who_set_terms_and_why_is_on_record(teller: Teller) -> None:
    await teller.set_terms(key="k", overdraft_limit=5)
    row = await teller.conn.fetchrow(
        "SELECT actor, detail FROM credit_operations WHERE scope = $1 AND key = 'k'", teller.user_id
    )
    assert row is not None
    assert (row["actor"], row["detail"]) == ("admin", {"reason": "asked for"})


async def test_an_account_is_opened_somewhere(conn: Connection) -> None:
    with pytest.raises(asyncpg.PostgresError) as refused:
        await Teller(conn).open(time_zone="Mars/Olympus")
    assert refused.value.sqlstate == "TW011"


async def test_the_same_key_sets_terms_once(teller: Teller) -> None:
    await teller.set_terms(key="k", overdraft_limit=5)
    await teller.set_terms(overdraft_limit=7)
    assert (await teller.set_terms(key="k", overdraft_limit=5)).replayed
    assert (await teller.balance()).overdraft_limit == 7
    with pytest.raises(KeyReused):
        await teller.set_terms(key="k", overdraft_limit=6)


async def test_many_make_one_plan_at_once(pool: Pool) -> None:
    name, key = fresh("plan"), fresh("k")

    async def make(number: int) -> plans.Change:
        async with pool.acquire() as connection:
            own = key if number % 2 else fresh("k")
            return await plans.set_plan(connection, plan=name, key=own, terms={"weight": 7}, reason=None, actor="a")

    made = await asyncio.gather(*(make(number) for number in range(16)))
    assert sum(change.before is None and not change.replayed for change in made) == 1
    assert sum(change.replayed for change in made) == 7


async def test_a_limit_below_the_debt_stops_what_is_new_and_nothing_else(teller: Teller) -> None:
    await teller.set_terms(overdraft_limit=10)
    hold = await teller.hold(4)
    await teller.capture(await teller.hold(6), 6)
    await teller.set_terms(overdraft_limit=2)
    blocked = await teller.decide(1)
    assert (blocked.verdict, blocked.affordable, blocked.shortfall) == ("block", 0, 7)
    await teller.capture(hold, 4)
    assert (await teller.balance()).overdraft_used == 10
    await teller.grant(9)
    assert (await teller.decide(1)).verdict == "warn"


ACCOUNTS = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["hard", "soft", "off"]),
        "limit": st.integers(0, 12),
        "later_limit": st.integers(0, 12),
        "threshold": st.integers(0, 6),
        "daily": st.sampled_from([0, 0, 4]),
        "credits": st.integers(0, 12),
        "late_credits": st.integers(0, 6),
        "spent": st.integers(0, 14),
        "held": st.integers(0, 14),
        "hours": st.sampled_from([0, 0.5, 1, 13]),
        "amount": st.integers(0, 30),
    }
)


@settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(accounts=st.lists(ACCOUNTS, min_size=4, max_size=4))
def test_a_quote_is_what_the_submit_gets_and_its_figures_are_exact(
    database_url: str, accounts: list[dict[str, Any]]
) -> None:
    wait_for(_judge(database_url, accounts))


async def _judge(url: str, accounts: list[dict[str, Any]]) -> None:
    conn = await connect(url)
    try:
        for account in accounts:
            async with conn.transaction():
                await _quote_and_submit(await _somebody(conn, account), account["amount"])
        await assert_ledger_clean(conn)
    finally:
        await conn.close()


async def _somebody(conn: Connection, account: dict[str, Any]) -> Teller:
    teller = Teller(conn)
    plan = await teller.plan(daily_credits=account["daily"], overdraft_limit=account["limit"])
    await teller.open(plan=plan, low_balance_threshold=account["threshold"])
    if account["credits"]:
        await teller.grant(account["credits"], lasts=2)
    if account["late_credits"]:
        await teller.grant(account["late_credits"], starts=1)
    spent = await teller.reserve(account["spent"], lasts=24)
    if spent.hold_id is not None:
        await teller.capture(spent.hold_id, account["spent"])
    await teller.reserve(account["held"], lasts=24)
    await teller.set_terms(policy=account["policy"], overdraft_limit=account["later_limit"])
    return teller.after(account["hours"])


class _Undo(Exception):
    """Ends a transaction that was only a question."""


async def _would_hold(teller: Teller, amount: int, *, granted: int = 0) -> bool:
    """What a submit would get, after a grant: asked in a transaction that is rolled back."""
    outcome = ""
    try:
        async with teller.conn.transaction():
            if granted:
                await teller.grant(granted)
            outcome = (await teller.reserve(amount)).outcome
            raise _Undo
    except _Undo:
        return outcome == "held"


async def _quote_and_submit(teller: Teller, amount: int) -> None:
    quote = await teller.decide(amount)
    if quote.affordable is not None:
        assert await _would_hold(teller, quote.affordable)
        assert not await _would_hold(teller, quote.affordable + 1)
    if quote.verdict == "block":
        assert await _would_hold(teller, amount, granted=quote.shortfall)
        assert quote.shortfall > 0
        assert not await _would_hold(teller, amount, granted=quote.shortfall - 1)
    submit = await teller.reserve(amount, generation_id=uuid4())
    assert (submit.outcome == "denied") == (quote.verdict == "block")
    told = submit.decision
    assert (told.verdict, told.reasons, told.shortfall, told.remaining, told.affordable, told.balance) == (
        quote.verdict,
        quote.reasons,
        quote.shortfall,
        quote.remaining,
        quote.affordable,
        quote.balance,
    )
