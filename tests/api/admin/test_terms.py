"""Terms of people and plans: set, and set back."""

from uuid import uuid4

import pytest

from tests.api.admin.conftest import HOSTILE_REASONS, log_of, raw
from tests.api.conftest import Caller, World


async def test_terms_are_set_and_are_the_plans_again(world: World, admin: Caller) -> None:
    person = await world.person(granted=3)
    path = f"/v1/admin/people/{person.user_id}"
    changed = await admin("PATCH", path, json={"policy": "hard", "overdraft_limit": 7, "reason": "a friend"})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["before"]["policy"], changed.json()["after"]["policy"]) == (None, "hard")
    assert (await person.submit(type="image")).status_code == 402
    assert (await admin("PATCH", path, json={"policy": None})).json()["after"]["overdraft_limit"] == 7
    assert (await person.submit(type="image")).status_code == 202
    looked = (await admin("GET", path)).json()
    assert (looked["terms"]["policy"], looked["plan"]["policy"]) == (None, "soft")
    assert (looked["balance"]["overdraft_limit"], looked["balance"]["held"], looked["next_daily"]) == (7, 5, None)
    assert [act["kind"] for act in looked["operations"]] == ["set-terms", "set-terms", "grant"]
    assert (looked["operations"][1]["actor"], looked["operations"][1]["reason"]) == (admin.user_id, "a friend")


async def test_a_key_makes_a_change_of_terms_happen_once(world: World, admin: Caller) -> None:
    person = await world.person()
    path, headers = f"/v1/admin/people/{person.user_id}", {"Idempotency-Key": "k"}
    for expected in (None, "true"):
        reply = await admin("PATCH", path, json={"overdraft_limit": 7}, headers=headers)
        assert (reply.status_code, reply.headers.get("Idempotent-Replayed")) == (200, expected)
    other = await admin("PATCH", path, json={"overdraft_limit": 8}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


async def test_somebody_nobody_has_seen(world: World, admin: Caller) -> None:
    stranger = await world.person()
    path = f"/v1/admin/people/{stranger.user_id}"
    assert (await admin("GET", path)).status_code == 404
    unknown = await admin("PATCH", path, json={"plan": "no-such"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown-plan")
    assert unknown.json()["errors"][0]["pointer"] == "/plan"
    assert (await stranger.traces())["user_billing"] == 0
    assert (await admin("PATCH", path, json={"low_balance_threshold": 0})).status_code == 200
    assert (await admin("GET", path)).json()["balance"]["available"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"reason": "nothing else"},
        {"plan": None},
        *({"plan": plan} for plan in ("", "a b", "x" * 65, "../x", 5, "a\0")),
        {"policy": "gift"},
        *({"overdraft_limit": amount} for amount in (-1, 1.5, True, "1", 10**12 + 1)),
        *({"low_balance_threshold": amount} for amount in (-1, 2**70)),
        *({"policy": "hard", "reason": reason} for reason in HOSTILE_REASONS if reason is not None),
        {"time_zone": "UTC"},
        {"user_id": "somebody"},
    ],
    ids=repr,
)
async def test_bad_terms(world: World, admin: Caller, wrong: dict[str, object]) -> None:
    person = await world.person()
    reply = await admin("PATCH", f"/v1/admin/people/{person.user_id}", **raw(wrong))
    assert (reply.status_code, reply.json()["code"]) == (422, "validation-failed"), reply.text
    assert (await person.traces())["user_billing"] == 0


async def test_a_plan_is_made_changed_and_lived_on(world: World, admin: Caller) -> None:
    name = f"pro-{uuid4().hex[:8]}"
    path = f"/v1/admin/plans/{name}"
    headers = {"Idempotency-Key": uuid4().hex}
    made = await admin("PUT", path, json={"daily_credits": 30, "reason": "launch"}, headers=headers)
    assert (made.status_code, made.json()["before"], made.json()["after"]["daily_credits"]) == (201, None, 30)
    again = await admin("PUT", path, json={"daily_credits": 30, "reason": "launch"}, headers=headers)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    elsewhere = await admin("PUT", f"{path}2", json={"daily_credits": 30, "reason": "launch"}, headers=headers)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "idempotency-key-reused")
    changed = await admin("PUT", path, json={"weight": 3})
    assert (changed.json()["before"]["weight"], changed.json()["after"]["weight"]) == (1, 3)
    assert changed.json()["after"]["daily_credits"] == 30
    listed = (await admin("GET", "/v1/admin/plans")).json()["data"]
    assert {"free", name} <= {plan["plan"] for plan in listed}

    person = await world.person()
    await admin("PATCH", f"/v1/admin/people/{person.user_id}", json={"plan": name})
    looked = (await admin("GET", f"/v1/admin/people/{person.user_id}")).json()
    assert (looked["next_daily"]["credits"], looked["balance"]["available"]) == (30, 30)
    assert looked["balance"]["posted"] == 30
    assert (await person.traces())["credit_entries"] == 0, "a look by staff is not a visit"
    [first, _] = reversed(await log_of(admin, scope="plans", actor=admin.user_id))
    assert (first["outcome"]["after"]["plan"], first["reason"]) == (name, "launch")


async def test_a_limit_in_flight_is_given_kept_and_taken_away(admin: Caller) -> None:
    path = f"/v1/admin/plans/busy-{uuid4().hex[:8]}"
    await admin("PUT", path, json={})
    given = (await admin("PUT", path, json={"max_in_flight": 4})).json()
    assert (given["before"]["max_in_flight"], given["after"]["max_in_flight"]) == (None, 4)
    assert (await admin("PUT", path, json={"weight": 2})).json()["after"]["max_in_flight"] == 4, "left out, it stays"
    undone = (await admin("PUT", path, json={"max_in_flight": given["before"]["max_in_flight"]})).json()
    assert undone["after"]["max_in_flight"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        *({"daily_credits": amount} for amount in (-1, 1.5, True, "1", 10**9 + 1)),
        *({"weight": weight} for weight in (0, 1001, 2**40)),
        *({"max_in_flight": limit} for limit in (0, 10_001, "1")),
        {"overdraft_limit": 10**12 + 1},
        {"policy": "gift"},
        {"reason": "a\0"},
        {"plan": "x"},
    ],
    ids=repr,
)
async def test_bad_plans(world: World, admin: Caller, wrong: dict[str, object]) -> None:
    name = f"bad-{uuid4().hex[:8]}"
    assert (await admin("PUT", f"/v1/admin/plans/{name}", json=wrong)).status_code == 422
    assert name not in (await admin("GET", "/v1/admin/plans")).text
