"""Prices as owners add them: the admin's doors, what they refuse, and what everybody sees of the list."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.conftest import Caller, World
from tests.api.price_list import PIXELS, SECONDS, STEPS, VIDEO, add, menu, priced, quoted


async def test_an_owner_adds_a_price_and_everybody_sees_it(world: World, owner: Caller) -> None:
    tiers = [{"min_batch": 4, "multiplier_permille": 900}]
    added = await priced(owner, **VIDEO, batch_multipliers=tiers, note="Longer clips")
    assert (added["replayed"], added["created_by"], added["note"]) == (False, "user_owner", "Longer clips")
    [listed] = [price for price in (await menu(world))["prices"] if price["type"] == "video"]
    assert listed == {name: added[name] for name in listed}
    assert (listed["surcharges"], listed["batch_multipliers"]) == ([STEPS, SECONDS], tiers)


async def test_a_key_adds_one_price(world: World, owner: Caller) -> None:
    first = await add(owner, key="spring", type="text", unit_credits=1)
    again = await add(owner, key='"spring"', unit_credits=1, type="text")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "replayed": True}
    assert (first.headers.get("Idempotent-Replayed"), again.headers.get("Idempotent-Replayed")) == (None, "true")
    other = await add(owner, key="spring", type="text", unit_credits=2)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


async def test_the_price_of_a_mistyped_endpoint_is_withdrawn(world: World, owner: Caller) -> None:
    person = await world.person(granted=100)
    wish = {"type": "image", "endpoint": "tpyo"}
    await priced(owner, **wish, unit_credits=0)
    locked = await quoted(person, **wish)
    withdrawn = await priced(owner, **wish, unit_credits=0, withdrawn=True, note="a slip")
    assert withdrawn["withdrawn"]
    assert "tpyo" not in {price["endpoint"] for price in (await menu(world))["endpoint_prices"]}
    refused = await person("POST", "/v1/quotes", json=wish)
    assert (refused.status_code, refused.json()["code"]) == (422, "no-such-endpoint")
    order = {**wish, "prompt": "a boat"}
    assert (await person("POST", "/v1/generations", json=order)).status_code == 422
    kept = await person("POST", "/v1/generations", json={**order, "quote_id": locked["id"]})
    assert kept.status_code == 202, "a quote that was given keeps its price until it expires"
    await priced(owner, **wish, unit_credits=7)
    assert (await quoted(person, **wish))["cost"] == 7
    await priced(owner, **wish, unit_credits=0, withdrawn=True)


@pytest.mark.parametrize("more", [{}, {"endpoint": "slow", "unit_credits": 3}])
async def test_only_the_price_of_an_endpoint_is_withdrawn(owner: Caller, more: dict[str, Any]) -> None:
    refused = await add(owner, **{"type": "image", "unit_credits": 0, "withdrawn": True, **more})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-price")


async def test_the_audit_log_says_who_and_why(owner: Caller) -> None:
    added = await priced(owner, type="text", unit_credits=1, note="Spring sale")
    [act] = (await owner("GET", "/v1/admin/operations?kind=price&limit=1")).json()["data"]
    assert (act["actor"], act["reason"], act["scope"]) == ("user_owner", "Spring sale", "prices")
    assert act["outcome"] == {"version": added["version"], "hash": added["hash"]}


async def test_who_waits_too_long_for_the_price_list_may_try_again(world: World, owner: Caller) -> None:
    before = await menu(world)
    async with world.pool.acquire() as connection:
        settings = await connection.fetchval("SELECT proconfig FROM pg_proc WHERE proname = 'prices_add'")
        assert "lock_timeout=3s" in settings
        await connection.execute("ALTER FUNCTION prices_add SET lock_timeout = '50ms'")
        async with connection.transaction():
            await connection.execute("SELECT price_versions_queue()")
            reply = await add(owner, type="text", unit_credits=9)
        await connection.execute("ALTER FUNCTION prices_add SET lock_timeout = '3s'")
    assert (reply.status_code, reply.json()["code"], reply.json()["retryable"]) == (503, "unavailable", True)
    assert await menu(world) == before


async def test_a_price_is_not_added_without_a_key(world: World, owner: Caller) -> None:
    body = {"type": "text", "unit_credits": 7}
    missing = await owner("POST", "/v1/admin/prices", json=body)
    assert (missing.status_code, missing.json()["errors"][0]["parameter"]) == (422, "idempotency-key")
    empty = await owner("POST", "/v1/admin/prices", json=body, headers={"Idempotency-Key": '""'})
    assert (empty.status_code, empty.json()["code"]) == (400, "invalid-idempotency-key")


async def test_prices_are_for_admins(world: World) -> None:
    person = await world.person()
    assert (await add(person, type="text", unit_credits=0)).status_code == 403
    assert (await person("GET", "/v1/admin/prices")).status_code == 403
    reply = await world.client.post("/v1/admin/prices", json={}, headers={"Idempotency-Key": "x"})
    assert reply.status_code == 401


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_prices_are_never_edited(owner: Caller, method: str) -> None:
    assert (await owner(method, "/v1/admin/prices", json={})).status_code == 405
    assert (await owner(method, "/v1/admin/prices/1", json={})).status_code == 404


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"type": "music"}, "/type"),
        ({"unit_credits": -1}, "/unit_credits"),
        ({"unit_credits": 10**9 + 1}, "/unit_credits"),
        ({"unit_credits": 1.0}, "/unit_credits"),
        ({"unit_credits": "5"}, "/unit_credits"),
        ({"unit_credits": True}, "/unit_credits"),
        ({"unit_credits": None}, "/unit_credits"),
        ({"endpoint": ""}, "/endpoint"),
        ({"endpoint": "a b"}, "/endpoint"),
        ({"endpoint": "a\n"}, "/endpoint"),
        ({"endpoint": "x" * 101}, "/endpoint"),
        ({"note": ""}, "/note"),
        ({"note": "a\u0000b"}, "/note"),
        ({"note": "x" * 501}, "/note"),
        ({"batch_multipliers": {}}, "/batch_multipliers"),
        ({"batch_multipliers": [{"min_batch": 0, "multiplier_permille": 1}]}, "/batch_multipliers/0/min_batch"),
        ({"batch_multipliers": [{"min_batch": 2}]}, "/batch_multipliers/0/multiplier_permille"),
        ({"batch_multipliers": [{"min_batch": 2, "multiplier_permille": 9}] * 2}, "/batch_multipliers"),
        ({"surcharges": [{**STEPS, "step": 0}]}, "/surcharges/0/step"),
        ({"surcharges": [STEPS, {**PIXELS, "credits": -1}]}, "/surcharges/1/credits"),
        ({"surcharges": [{**STEPS, "parameter": "seed"}]}, "/surcharges/0/parameter"),
        ({"surcharges": [{**STEPS, "surprise": 1}]}, "/surcharges/0/surprise"),
        ({"surcharges": [STEPS, STEPS]}, "/surcharges"),
        ({"surcharges": [SECONDS]}, "/surcharges"),
        ({"type": "text", "surcharges": [STEPS]}, "/surcharges"),
        ({"surcharges": [{**PIXELS, "included": 0, "step": 1, "credits": 10**9}]}, "/unit_credits"),
        ({"effective_at": "2020-01-01T00:00:00Z"}, "/effective_at"),
        ({"effective_at": "2999-01-01T00:00:00"}, "/effective_at"),
        ({"effective_at": "9999-12-31T23:59:59-23:59"}, "/effective_at"),
        ({"effective_at": 32_503_680_000}, "/effective_at"),
        ({"effective_at": "soon"}, "/effective_at"),
        ({"surprise": 1}, "/surprise"),
    ],
    ids=str,
)
async def test_bad_prices(world: World, owner: Caller, wrong: dict[str, Any], pointer: str) -> None:
    before = await menu(world)
    reply = await add(owner, **{"type": "image", "unit_credits": 5, **wrong})
    assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, pointer), reply.text
    assert await menu(world) == before


async def test_a_price_of_tomorrow_is_not_todays(world: World, owner: Caller) -> None:
    before = await menu(world)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    added = await priced(owner, type="modify", unit_credits=99, effective_at=tomorrow)
    assert await menu(world) == before
    listed = {each["version"]: each for each in (await owner("GET", "/v1/admin/prices?limit=100")).json()["data"]}
    today = next(price["version"] for price in before["prices"] if price["type"] == "modify")
    assert (listed[today]["ends_at"], listed[added["version"]]["ends_at"]) == (added["effective_at"], None)


async def test_every_version_is_listed_newest_first(world: World, owner: Caller) -> None:
    for number in range(3):
        await priced(owner, type="text", unit_credits=1, note=f"number {number}")
    whole = (await owner("GET", "/v1/admin/prices?limit=100")).json()
    assert (whole["has_more"], whole["next_cursor"]) == (False, None)
    numbers = [each["version"] for each in whole["data"]]
    assert numbers == sorted(numbers, reverse=True)
    assert {"text", "image", "modify", "video"} == {each["type"] for each in whole["data"]}
    assert len({each["hash"] for each in whole["data"]}) == len(numbers)
    texts = [each["version"] for each in whole["data"] if each["type"] == "text"]
    walked: list[int] = []
    path: str | None = "/v1/admin/prices?type=text&limit=2"
    while path is not None:
        reply = await owner("GET", path)
        walked += [each["version"] for each in reply.json()["data"]]
        path = reply.links["next"]["url"] if reply.json()["has_more"] else None
    assert walked == texts
    assert len(walked) >= 4


async def test_cursors_fit_one_list_of_one_person(world: World, owner: Caller) -> None:
    cursor = (await owner("GET", "/v1/admin/prices?limit=1")).json()["next_cursor"]
    stranger = Caller(world, "user_other_owner", role="admin")
    for caller, path in (
        (owner, f"/v1/admin/prices?type=text&cursor={cursor}"),
        (stranger, f"/v1/admin/prices?cursor={cursor}"),
        (owner, f"/v1/generations?cursor={cursor}"),
        (owner, "/v1/admin/prices?cursor=made-up"),
    ):
        reply = await caller("GET", path)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid-cursor")
