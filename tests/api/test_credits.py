"""What a person is told about their credits: what there is, when it ends, when more comes, and what would help."""

import asyncio
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest

from api import credits as credit_routes
from shared import ledger, plans
from shared.credits import Bucket
from tests.api.conftest import Caller, World

DAY = timedelta(days=1)


async def plan(world: World, **terms: Any) -> str:
    """A plan of one's own."""
    name = f"plan-{token_hex(4)}"
    async with world.pool.acquire() as connection, connection.transaction():
        await plans.set_plan(connection, plan=name, key=name, terms=terms, reason=None, actor="test")
    return name


async def given(person: Caller, amount: int, *, days: float, kind: ledger.Kind = "promo") -> None:
    async with person.world.pool.acquire() as connection:
        expires_at = datetime.now(UTC) + days * DAY
        ref = token_hex(4)
        await ledger.grant(
            connection,
            user_id=person.user_id,
            key=ref,
            amount=amount,
            kind=kind,
            source_ref=ref,
            actor="test",
            expires_at=expires_at,
        )


async def looked(person: Caller) -> dict[str, Any]:
    reply = await person("GET", "/v1/credits")
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def test_the_first_look_of_a_day_gives_its_credits_and_the_next_nothing(world: World) -> None:
    person = await world.person(plan=await plan(world, daily_credits=10))
    looks = await asyncio.gather(*(looked(person) for _ in range(10)))
    assert {look["available"] for look in looks} == {10}
    look = looks[-1]
    assert [bucket["kind"] for bucket in look["buckets"]] == ["daily"]
    assert look["next_daily_credits"] == 10
    midnight = datetime.fromisoformat(look["next_daily_grant_at"])
    assert midnight == datetime.combine(datetime.now(UTC).date() + DAY, datetime.min.time(), UTC)
    assert look["next_expiry"] == {"at": look["next_daily_grant_at"], "amount": 10}
    assert look["expiring_soon"] == [{"at": look["next_daily_grant_at"], "amount": 10, "kind": "daily"}]
    assert (await person.traces())["credit_entries"] == 1


async def test_a_look_at_a_busy_account_reads_by_the_clock(world: World) -> None:
    person = await world.person(plan=await plan(world, daily_credits=10))
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", person.user_id)
        look = await looked(person)
        assert (look["available"], look["buckets"]) == (10, []), "given by the clock, not yet written"
    assert [bucket["kind"] for bucket in (await looked(person))["buckets"]] == ["daily"]


async def test_what_ends_when(world: World) -> None:
    person = await world.person(granted=5)
    assert (await looked(person))["next_expiry"] is None
    await given(person, 3, days=30)
    await given(person, 4, days=6, kind="plan")
    await given(person, 2, days=8)
    look = await looked(person)
    assert look["next_expiry"]["amount"] == 4
    assert [(end["amount"], end["kind"]) for end in look["expiring_soon"]] == [(4, "plan")]
    await person.submit(type="text", batch_size=4)
    assert (await looked(person))["next_expiry"]["amount"] == 2, "what is held does not expire"


def test_what_ends_together_is_told_together() -> None:
    soon, later = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)

    def bucket(kind: ledger.Kind, remaining: int, expires_at: datetime | None) -> Bucket:
        return Bucket(
            bucket_id=1,
            kind=kind,
            priority=100,
            granted=9,
            remaining=remaining,
            held=0,
            effective_at=soon - DAY,
            expires_at=expires_at,
            source_ref="x",
        )

    ends = credit_routes.expiries(
        [bucket("promo", 1, later), bucket("daily", 2, soon), bucket("promo", 3, soon), bucket("promo", 4, soon),
         bucket("paid", 9, None), bucket("plan", 0, soon - DAY)]
    )  # fmt: skip
    assert ends == [
        {"at": soon, "amount": 2, "kind": "daily"},
        {"at": soon, "amount": 7, "kind": "promo"},
        {"at": later, "amount": 1, "kind": "promo"},
    ]
    assert credit_routes.next_expiry(ends) == {"at": soon, "amount": 9}


async def test_the_terms_that_count_are_told(world: World) -> None:
    generous = await plan(world, policy="off", low_balance_threshold=3)
    person = await world.person(plan=generous, low_balance_threshold=7)
    look = await looked(person)
    assert (look["plan"], look["policy"], look["low_balance_threshold"]) == (generous, "off", 7)
    assert (look["time_zone"], look["warnings"]) == ("UTC", [])
    newcomer = await looked(await world.person())
    assert (newcomer["plan"], newcomer["policy"], newcomer["low_balance_threshold"]) == ("free", "soft", 10)


async def test_each_threshold_is_warned_of_once(world: World) -> None:
    person = await world.person(granted=12, overdraft_limit=50)
    for _ in range(4):
        await person.submit(type="image")
    warnings = (await looked(person))["warnings"]
    assert [(warning["code"], warning["available"]) for warning in warnings] == [("overdraft", 0), ("low-balance", 7)]
    assert warnings[1]["detail"] == "Your credits are running low: 7 credits left."
    assert warnings[0]["id"] > warnings[1]["id"]
    other = await world.person(granted=100)
    assert (await looked(other))["warnings"] == []


async def test_a_refusal_and_its_quote_say_the_same_that_would_help(world: World) -> None:
    person = await world.person(plan=await plan(world, daily_credits=10))
    order: dict[str, Any] = {"type": "image", "batch_size": 5}
    quote = (await person("POST", "/v1/quotes", json=order)).json()
    refusal = (await person.submit(**order)).json()
    assert refusal["status"] == 402
    assert quote["help"] == refusal["help"]
    top_up, daily, smaller = refusal["help"]
    assert (top_up["code"], top_up["credits"], top_up["url"]) == ("top-up", 15, "https://example.com/upgrade")
    assert (daily["code"], daily["credits"], daily["at"]) == ("daily-credits", 10, refusal["next_daily_grant_at"])
    assert daily["at"].endswith("Z")
    assert (smaller["code"], smaller["batch_size"], smaller["cost"]) == ("smaller-batch", 2, 10)
    assert (await person.submit(type="image", batch_size=smaller["batch_size"])).status_code == 202


async def test_what_would_not_help_is_not_offered(world: World) -> None:
    person = await world.person(granted=4)
    quote = (await person("POST", "/v1/quotes", json={"type": "image", "batch_size": 5})).json()
    assert [offer["code"] for offer in quote["help"]] == ["top-up"]
    for batch_size, verdict in ((4, "warn"), (5, "block")):
        quote = (await person("POST", "/v1/quotes", json={"type": "text", "batch_size": batch_size})).json()
        assert (quote["verdict"], bool(quote["help"])) == (verdict, verdict == "block")


@pytest.mark.parametrize("policy", ["hard", "soft"])
async def test_the_smaller_batch_that_is_offered_goes_through(world: World, policy: str) -> None:
    person = await world.person(granted=13, policy=policy, overdraft_limit=10)
    order = {"type": "image", "batch_size": 8}
    [*_, smaller] = (await person("POST", "/v1/quotes", json=order)).json()["help"]
    assert smaller["batch_size"] == (2 if policy == "hard" else 4)
    larger = await person.submit(type="image", batch_size=smaller["batch_size"] + 1)
    assert larger.status_code == 402
    assert (await person.submit(type="image", batch_size=smaller["batch_size"])).status_code == 202
