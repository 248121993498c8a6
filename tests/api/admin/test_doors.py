"""Who may use the doors, and how the mistakes of those who may are undone."""

from typing import Any
from uuid import uuid4

import pytest

from tests.api.admin.conftest import ADJUSTMENT, adjust, charged, log_of, reverse
from tests.api.conftest import Caller, World

DOORS = [
    ("POST", "/v1/admin/grants", {"user_id": "u", "amount": 1, "kind": "promo", "source_ref": "x"}),
    ("POST", "/v1/admin/adjustments", {"user_id": "u", **ADJUSTMENT}),
    ("POST", "/v1/admin/reversals", {"user_id": "u", "kind": "promo", "source_ref": "s", "reason": "mine"}),
    ("PATCH", "/v1/admin/people/u", {"policy": "off"}),
    ("PUT", "/v1/admin/plans/free", {"daily_credits": 1000}),
    ("GET", "/v1/admin/people/u", None),
    ("GET", "/v1/admin/plans", None),
    ("GET", "/v1/admin/operations", None),
]


@pytest.mark.parametrize(("method", "path", "body"), DOORS, ids=[f"{door[0]} {door[1]}" for door in DOORS])
async def test_doors_for_administrators_only(world: World, method: str, path: str, body: dict[str, Any] | None) -> None:
    person = await world.person(granted=10)
    headers = {"Idempotency-Key": "k"}
    arguments: dict[str, Any] = (
        {} if body is None else {"json": {**body, **({"user_id": person.user_id} if "user_id" in body else {})}}
    )
    path = path.replace("/u", f"/{person.user_id}")
    assert (await person(method, path, headers=headers, **arguments)).status_code == 403
    assert (await world.client.request(method, path, headers=headers, **arguments)).status_code == 401
    borrowed = world.headers("user_admin", role="admin", act={"sub": "user_staff"})
    assert (await world.client.request(method, path, headers={**headers, **borrowed}, **arguments)).status_code == 403
    assert await person.available() == 10


async def test_a_wrong_grant_is_reversed(world: World, admin: Caller) -> None:
    person = await world.person(granted=4)
    wrong = {"user_id": person.user_id, "amount": 1000, "kind": "paid", "source_ref": "stripe:typo"}
    await admin("POST", "/v1/admin/grants", json={**wrong, "paid_amount": 999, "paid_currency": "EUR"})
    assert await person.available() == 1004
    await reverse(admin, user_id=person.user_id, kind="paid", source_ref="stripe:typo")
    assert await person.available() == 4


async def test_a_wrong_plan_is_set_back(world: World, admin: Caller) -> None:
    person = await world.person(overdraft_limit=5)
    name = f"vip-{uuid4().hex[:8]}"
    await admin("PUT", f"/v1/admin/plans/{name}", json={"policy": "off"})
    path = f"/v1/admin/people/{person.user_id}"
    await admin("PATCH", path, json={"plan": name, "overdraft_limit": None})
    [mistake] = await log_of(admin, scope=person.user_id, kind="set-terms")
    before = {name: mistake["outcome"]["before"][name] for name in ("plan", "policy", "overdraft_limit")}
    assert (await admin("PATCH", path, json=before)).status_code == 200
    terms = (await admin("GET", path)).json()["terms"]
    assert (terms["plan"], terms["policy"], terms["overdraft_limit"]) == ("free", None, 5)


async def test_a_wrong_charge_is_given_back_and_a_wrong_adjustment_adjusted(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    await reverse(admin, generation_id=await charged(world, person))
    assert await person.available() == 20
    await adjust(admin, person, amount=-7)
    await adjust(admin, person, amount=7)
    assert await person.available() == 20
