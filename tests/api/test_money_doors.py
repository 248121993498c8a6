"""Prices, quotes, credits and grants."""

import time
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from shared.pricing import Cost
from tests.api.conftest import Caller, World


async def quoted(person: Caller, **body: object) -> dict[str, object]:
    reply = await person("POST", "/v1/quotes", json={"type": "image", **body})
    assert reply.status_code == 200, reply.text
    found: dict[str, object] = reply.json()
    return found


async def dearer(world: World, unit_credits: int) -> None:
    async with world.pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO price_versions (type, unit_credits, created_by) VALUES ('image', $1, 'test')", unit_credits
        )


async def test_prices_are_public(world: World) -> None:
    prices = {
        price["type"]: price["unit_credits"] for price in (await world.client.get("/v1/pricing")).json()["prices"]
    }
    assert {"text", "image", "modify", "video"} == set(prices)
    assert prices["video"] == 10


async def test_a_quote_says_what_a_submit_would(world: World) -> None:
    person = await world.person(granted=22)
    quote = await quoted(person, batch_size=3)
    assert (quote["cost"], quote["remaining"], quote["verdict"]) == (15, 7, "warn")
    assert quote["lines"] == [{"label": "3 x image at 5", "amount": 15}]
    body = (await person.submit(type="image", batch_size=3, quote_id=quote["id"])).json()
    assert body["cost"]["quoted"] == quote["cost"]
    assert [warning["code"] for warning in body["warnings"]] == ["low-balance"]
    blocked = await quoted(person, batch_size=8)
    assert (blocked["verdict"], blocked["shortfall"]) == ("block", 33)
    assert blocked["upgrade_url"] == "https://example.com/upgrade"


async def test_a_quote_writes_nothing(world: World) -> None:
    person = await world.person()
    await quoted(person)
    assert set((await person.traces()).values()) == {0}


async def test_a_quote_locks_its_price(world: World) -> None:
    person = await world.person(granted=1000)
    quote = await quoted(person)
    await dearer(world, 50)
    try:
        assert (await person.submit(type="image")).json()["cost"]["quoted"] == 50
        reply = await person.submit(type="image", max_cost=49)
        assert (reply.status_code, reply.json()["code"], reply.json()["cost"]) == (409, "price-changed", 50)
        locked = await person.submit(type="image", max_cost=5, quote_id=quote["id"])
        assert locked.json()["cost"]["quoted"] == 5
    finally:
        await dearer(world, 5)


async def test_quotes_fit_one_order_of_one_person(world: World) -> None:
    person, stranger = await world.person(granted=100), await world.person(granted=100)
    quote_id = (await quoted(person))["id"]
    before = await person.traces()
    for caller, order, status in (
        (stranger, {"type": "image"}, 409),
        (person, {"type": "image", "batch_size": 2}, 409),
        (person, {"type": "text"}, 409),
    ):
        assert (await caller.submit(quote_id=quote_id, **order)).status_code == status
    forged = await person.submit(type="image", quote_id="made-up")
    assert (forged.status_code, forged.json()["errors"][0]["pointer"]) == (422, "/quote_id")
    assert await person.traces() == before


async def test_old_quotes_are_gone(world: World) -> None:
    person = await world.person(granted=100)
    for expires, version, total in ((time.time() - 1, 2, 5), (time.time() + 60, 9999, 5), (time.time() + 60, 2, 4)):
        offer = [person.user_id, "image", 1, version, total, int(expires)]
        reply = await person.submit(type="image", quote_id=world.state.quotes.sign(orjson.dumps(offer)))
        assert (reply.status_code, reply.json()["code"]) == (409, "price-changed")


@pytest.mark.parametrize("body", [{}, {"type": "music"}, {"type": "text", "batch_size": 99}, {"type": "text", "x": 1}])
async def test_bad_quotes(world: World, body: dict[str, object]) -> None:
    person = await world.person()
    assert (await person("POST", "/v1/quotes", json=body)).status_code == 422


async def test_credits_and_where_they_come_from(world: World) -> None:
    person = await world.person(granted=100, overdraft_limit=10)
    await person.submit(type="image")
    body = (await person("GET", "/v1/credits")).json()
    assert (body["available"], body["held"], body["posted"]) == (95, 5, 100)
    assert (body["overdraft_used"], body["overdraft_limit"], body["low"]) == (0, 10, False)
    assert [(bucket["kind"], bucket["remaining"], bucket["held"]) for bucket in body["buckets"]] == [("promo", 95, 5)]
    stranger = await world.person()
    assert (await stranger("GET", "/v1/credits")).json()["low"] is True


async def test_admins_grant_once(world: World) -> None:
    person = await world.person()
    admin = Caller(world, "user_admin", role="admin")
    body = {"user_id": person.user_id, "amount": 40, "kind": "paid", "source_ref": "stripe:1"}
    first = await admin("POST", "/v1/admin/grants", json=body)
    assert first.status_code == 201, first.text
    assert first.json()["balance"]["available"] == 40
    second = await admin("POST", "/v1/admin/grants", json=body)
    assert (second.status_code, second.json()["replayed"]) == (200, True)
    other = await admin("POST", "/v1/admin/grants", json={**body, "amount": 41})
    assert (other.status_code, other.json()["code"]) == (409, "grant-conflict")
    assert await person.available() == 40


async def test_a_purchase_says_what_was_paid(world: World) -> None:
    person = await world.person()
    admin = Caller(world, "user_admin", role="admin")
    body = {"user_id": person.user_id, "amount": 100, "kind": "paid", "source_ref": "stripe:2"}
    paid = {**body, "paid_amount": 999, "paid_currency": "EUR"}
    first = await admin("POST", "/v1/admin/grants", json=paid)
    assert (first.status_code, first.json()["paid_amount"], first.json()["paid_currency"]) == (201, 999, "EUR")
    again = await admin("POST", "/v1/admin/grants", json=paid)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    for other in (body, {**paid, "paid_amount": 998}, {**paid, "paid_currency": "USD"}):
        refused = await admin("POST", "/v1/admin/grants", json=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "grant-conflict")
    for half in ("paid_amount", "paid_currency"):
        refused = await admin("POST", "/v1/admin/grants", json={**body, half: paid[half]})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/paid_currency")
    stranger = await world.person()
    elsewhere = await admin("POST", "/v1/admin/grants", json={**paid, "user_id": stranger.user_id})
    assert elsewhere.status_code == 201, "a source_ref is one person's own"
    assert (await person.available(), await stranger.available()) == (100, 100)


async def test_a_grant_that_begins_later(world: World) -> None:
    person = await world.person()
    admin = Caller(world, "user_admin", role="admin")
    body = {"user_id": person.user_id, "amount": 100, "kind": "plan", "source_ref": "next-month"}
    later = {**body, "effective_at": "2998-01-01T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"}
    assert (await admin("POST", "/v1/admin/grants", json=later)).status_code == 201
    found = (await person("GET", "/v1/credits")).json()
    assert (found["available"], found["posted"]) == (0, 100)


async def test_grants_are_for_admins(world: World) -> None:
    person = await world.person()
    body = {"user_id": person.user_id, "amount": 40, "kind": "paid", "source_ref": "mine"}
    assert (await person("POST", "/v1/admin/grants", json=body)).status_code == 403
    assert (await world.client.post("/v1/admin/grants", json=body)).status_code == 401
    assert await person.available() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": -5},
        {"amount": 2**63},
        {"amount": "40"},
        {"kind": "daily"},
        {"source_ref": ""},
        {"source_ref": "x" * 201},
        {"user_id": ""},
        {"user_id": "a\0"},
        {"priority": 2**40},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "tomorrow"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expires_at": "0001-01-01T00:00:00+23:59"},
        {"expires_at": "2999-01-01T00:00:00"},
        {"effective_at": 4102444800},
        {"paid_amount": 5, "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": 5},
        {"kind": "paid", "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": -1, "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": 9.99, "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": True, "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": 10**16, "paid_currency": "EUR"},
        {"kind": "paid", "paid_amount": 5, "paid_currency": "eur"},
        {"kind": "paid", "paid_amount": 5, "paid_currency": "EURO"},
        {"surprise": 1},
    ],
    ids=str,
)
async def test_bad_grants(world: World, wrong: dict[str, object]) -> None:
    person = await world.person()
    admin = Caller(world, "user_admin", role="admin")
    body = {"user_id": person.user_id, "amount": 40, "kind": "promo", "source_ref": "x", **wrong}
    refused = await admin("POST", "/v1/admin/grants", json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].startswith("/")
    assert await person.available() == 0


async def test_grants_that_end(world: World) -> None:
    person = await world.person()
    admin = Caller(world, "user_admin", role="admin")
    ends = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    body = {
        "user_id": person.user_id,
        "amount": 5,
        "kind": "plan",
        "source_ref": "x",
        "expires_at": ends,
        "priority": 1,
    }
    assert (await admin("POST", "/v1/admin/grants", json=body)).status_code == 201
    bucket = (await person("GET", "/v1/credits")).json()["buckets"][0]
    assert datetime.fromisoformat(bucket["expires_at"]) == datetime.fromisoformat(ends)


def test_lines_add_up() -> None:
    cost = Cost(price_version=1, type="image", unit_credits=5, batch_size=4, multiplier_permille=900, total=18)
    assert sum(line["amount"] for line in cost.lines()) == 18
