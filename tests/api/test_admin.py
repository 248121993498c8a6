"""What administrators do to accounts and plans, what it leaves in the audit log, and how their mistakes are undone."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.admin import operations
from shared.generations import State
from tests.api.conftest import Caller, World
from tests.api.ladder import climb

LATER = "2999-01-01T00:00:00Z"
NOWHERE = "00000000-0000-7000-8000-000000000000"
ADJUSTMENT = {"amount": 5, "reason": "Support case 4711"}
HOSTILE_REASONS = ["", "  ", "x" * 501, "a\0b", "line\nbreak", "\x1b[31m", "\x9b31m", "\ud800", 5, True, None, ["why"]]


@pytest.fixture
def admin(world: World) -> Caller:
    return Caller(world, f"user_admin_{uuid4().hex[:8]}", role="admin")


def raw(body: object) -> dict[str, Any]:
    """A body as JSON in ASCII: half an emoji can be sent, too."""
    return {"content": json.dumps(body), "headers": {"Content-Type": "application/json", "Idempotency-Key": "k"}}


async def adjust(admin: Caller, person: Caller, key: str | None = None, **body: Any) -> httpx.Response:
    sent = {"user_id": person.user_id, **ADJUSTMENT, **body}
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await admin("POST", "/v1/admin/adjustments", json=sent, headers=headers)


async def reverse(admin: Caller, **body: Any) -> httpx.Response:
    return await admin("POST", "/v1/admin/reversals", json={"reason": "by mistake", **body})


async def log_of(admin: Caller, **filters: Any) -> list[dict[str, Any]]:
    reply = await admin("GET", "/v1/admin/operations", params=filters)
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["data"]
    return found


async def charged(world: World, person: Caller) -> str:
    """A picture of the person's that was delivered and charged 5 credits."""
    generation_id: str = (await person.submit(type="image")).json()["id"]
    outputs = [
        {"index": 0, "kind": "image", "media_type": "image/png", "key": "k", "width": 8, "height": 8, "bytes": 1}
    ]
    async with world.pool.acquire() as connection:
        await climb(connection, UUID(generation_id), State.COMPLETED, outputs=outputs)
    return generation_id


# ---------------------------------------------------------------------------------------------- adjustments


async def test_an_adjustment_gives_and_takes(world: World, admin: Caller) -> None:
    person = await world.person(granted=10)
    given = await adjust(admin, person, amount=5, expires_at=LATER)
    assert (given.status_code, given.json()["amount"], given.json()["balance"]["available"]) == (201, 5, 15)
    taken = await adjust(admin, person, amount=-12)
    assert (taken.status_code, taken.json()["amount"], await person.available()) == (201, -12, 3)
    last, first = await log_of(admin, scope=person.user_id, kind="adjust")
    assert (last["actor"], last["kind"], last["reason"]) == (admin.user_id, "adjust", "Support case 4711")
    assert (last["outcome"]["amount"], first["outcome"]["amount"]) == (-12, 5)


async def test_an_adjustment_needs_a_key_and_happens_once_for_it(world: World, admin: Caller) -> None:
    person, other = await world.person(), await world.person()
    body = {"user_id": person.user_id, **ADJUSTMENT}
    without = await admin("POST", "/v1/admin/adjustments", json=body)
    assert (without.status_code, without.json()["code"]) == (400, "invalid-idempotency-key")
    assert "needs an Idempotency-Key" in without.json()["detail"]
    key = "k" * 255
    assert (await adjust(admin, person, key)).status_code == 201
    again = await adjust(admin, person, key)
    assert (again.status_code, again.json()["replayed"], again.headers["Idempotent-Replayed"]) == (200, True, "true")
    for changed in ({"amount": 6}, {"reason": "another"}, {"expires_at": LATER}):
        refused = await adjust(admin, person, key, **changed)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused")
    elsewhere = await adjust(admin, other, key)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "idempotency-key-reused")
    assert (await person.available(), await other.available()) == (5, 0)


async def test_parallel_adjustments_of_one_key_are_one(world: World, admin: Caller) -> None:
    people = [await world.person(granted=1), await world.person(granted=1)]
    answers = await asyncio.gather(*(adjust(admin, person, "same-moment") for person in people for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201] + [422] * 8
    assert sorted([await person.available() for person in people]) == [1, 6]


async def test_a_key_of_an_operator_is_not_one_of_the_ledgers_own(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    generation_id = await charged(world, person)
    async with world.pool.acquire() as connection:
        hold_id = await connection.fetchval("SELECT hold_id FROM credit_holds WHERE generation_id = $1", generation_id)
    assert (await adjust(admin, person, f"reverse:{hold_id}")).status_code == 201
    assert (await reverse(admin, generation_id=generation_id)).status_code == 201


async def test_what_is_not_there_is_not_taken(world: World, admin: Caller) -> None:
    person = await world.person(granted=10)
    await person.submit(type="image")
    before = await person.traces()
    refused = await adjust(admin, person, amount=-6)
    assert (refused.status_code, refused.json()["code"]) == (409, "not-enough-credits")
    assert refused.json()["errors"][0]["pointer"] == "/amount"
    assert await person.traces() == before


@pytest.mark.parametrize(
    "wrong",
    [
        *({"amount": amount} for amount in (0, 1.5, 2.0, True, "5", None, 10**12 + 1, -(10**30), 2**63)),
        *({"reason": reason} for reason in HOSTILE_REASONS),
        *({"user_id": user_id} for user_id in ("", "a\0", "u" * 256, 7, None, "\ud800")),
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": 4102444800},
        {"expires_at": LATER, "amount": -1},
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_adjustments(world: World, admin: Caller, wrong: dict[str, object]) -> None:
    person = await world.person(granted=10)
    sent = {"user_id": person.user_id, **ADJUSTMENT, **wrong}
    reply = await admin("POST", "/v1/admin/adjustments", **raw(sent))
    assert reply.status_code == 422, reply.text
    assert reply.json()["errors"][0]["pointer"] in {f"/{name}" for name in wrong}
    assert await person.available() == 10


# ---------------------------------------------------------------------------------------------- reversals


async def test_a_grant_is_taken_back_once_and_spent_credits_stay_spent(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    await charged(world, person)
    wanted = {"user_id": person.user_id, "kind": "promo", "source_ref": "s"}
    first = await reverse(admin, **wanted)
    assert (first.status_code, first.json()["amount"], first.json()["spent"]) == (201, -15, 5)
    again = await reverse(admin, **wanted)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    for changed in ({"amount": 3}, {"reason": "another"}):
        refused = await reverse(admin, **wanted, **changed)
        assert (refused.status_code, refused.json()["code"]) == (409, "already-reversed")
    assert await person.available() == 0
    [act] = await log_of(admin, scope=person.user_id, kind="reverse")
    assert (act["actor"], act["reason"], act["outcome"]["amount"]) == (admin.user_id, "by mistake", -15)


async def test_a_charge_is_given_back_once_and_only_what_was_charged(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    generation_id = await charged(world, person)
    too_much = await reverse(admin, generation_id=generation_id, amount=6)
    assert (too_much.status_code, too_much.json()["code"]) == (422, "over-capture")
    assert too_much.json()["errors"][0]["pointer"] == "/amount"
    first = await reverse(admin, generation_id=generation_id)
    assert (first.status_code, first.json()["user_id"], first.json()["amount"]) == (201, person.user_id, 5)
    assert (await reverse(admin, generation_id=generation_id)).status_code == 200
    assert (await reverse(admin, generation_id=generation_id, amount=1)).json()["code"] == "already-reversed"
    assert await person.available() == 20


async def test_parallel_reversals_are_one(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    generation_id = await charged(world, person)
    both = ({"generation_id": generation_id}, {"user_id": person.user_id, "kind": "promo", "source_ref": "s"})
    answers = await asyncio.gather(*(reverse(admin, **body) for body in both for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 14 + [201] * 2
    assert await person.available() == 5
    assert len(await log_of(admin, scope=person.user_id, kind="reverse")) == 2


async def test_there_must_be_something_to_reverse(world: World, admin: Caller) -> None:
    person, other = await world.person(granted=20), await world.person()
    pending = (await person.submit(type="image")).json()["id"]
    for body, status, code in (
        ({"generation_id": pending}, 409, "not-charged"),
        ({"generation_id": NOWHERE}, 404, "not-found"),
        ({"user_id": person.user_id, "kind": "promo", "source_ref": "nothing"}, 404, "unknown-grant"),
        ({"user_id": person.user_id, "kind": "paid", "source_ref": "s"}, 404, "unknown-grant"),
        ({"user_id": other.user_id, "kind": "promo", "source_ref": "s"}, 404, "unknown-grant"),
        ({"user_id": person.user_id, "kind": "promo", "source_ref": "s", "amount": 21}, 422, "invalid-amount"),
    ):
        refused = await reverse(admin, **body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body
    assert await person.available() == 15
    assert (await other.traces())["user_billing"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_id": None},
        {"kind": None},
        {"source_ref": None},
        {"kind": "music"},
        {"source_ref": "a b"},
        {"generation_id": NOWHERE},
        {"user_id": None, "kind": None, "source_ref": None, "generation_id": "x"},
        {"user_id": None, "kind": None, "source_ref": None},
        *({"amount": amount} for amount in (0, -1, 1.5, True, "1", 10**13)),
        *({"reason": reason} for reason in HOSTILE_REASONS),
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_reversals(world: World, admin: Caller, wrong: dict[str, object]) -> None:
    person = await world.person(granted=20)
    sent = {"user_id": person.user_id, "kind": "promo", "source_ref": "s", "reason": "mine", **wrong}
    reply = await admin("POST", "/v1/admin/reversals", **raw(sent))
    assert (reply.status_code, reply.json()["code"]) == (422, "validation-failed"), reply.text
    assert len(reply.json()["errors"]) == 1
    assert await person.available() == 20


# ---------------------------------------------------------------------------------------------- people and plans


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


@pytest.mark.parametrize(
    "wrong",
    [
        *({"daily_credits": amount} for amount in (-1, 1.5, True, "1", 10**9 + 1)),
        *({"weight": weight} for weight in (0, 1001, 2**40)),
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


# ---------------------------------------------------------------------------------------------- the log


async def test_the_log_in_pages(world: World, admin: Caller) -> None:
    person = await world.person()
    for amount in range(1, 8):
        await adjust(admin, person, amount=amount)
    filters: dict[str, Any] = {"scope": person.user_id, "actor": admin.user_id, "kind": "adjust", "limit": 3}
    seen: list[int] = []
    reply = await admin("GET", "/v1/admin/operations", params=filters)
    while True:
        seen += [act["outcome"]["amount"] for act in reply.json()["data"]]
        if not reply.json()["has_more"]:
            break
        reply = await admin("GET", reply.headers["Link"].partition(">")[0].removeprefix("<"))
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    cursor = (await admin("GET", "/v1/admin/operations", params=filters)).json()["next_cursor"]
    for other in ({"actor": "somebody"}, {"kind": "grant"}, {"scope": "plans"}):
        strange = await admin("GET", "/v1/admin/operations", params={**filters, **other, "cursor": cursor})
        assert (strange.status_code, strange.json()["code"]) == (400, "invalid-cursor")


async def test_acts_of_one_moment_are_neither_lost_nor_doubled(world: World, admin: Caller) -> None:
    actor = f"script_{uuid4().hex}"
    async with world.pool.acquire() as connection:
        await connection.execute(
            """SELECT ledger_remember('scope-' || n, 'key', 'grant', sha256(''), '{}', '2026-01-01T00:00:00Z', $1)
               FROM generate_series(1, 20) n""",
            actor,
        )
    seen, cursor = [], None
    while True:
        page = (
            await admin(
                "GET",
                "/v1/admin/operations",
                params={"actor": actor, "limit": 3, **({"cursor": cursor} if cursor else {})},
            )
        ).json()
        seen += [act["scope"] for act in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert sorted(seen) == sorted(f"scope-{n}" for n in range(1, 21))


async def test_what_work_does_is_not_in_the_log(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    await charged(world, person)
    assert [act["kind"] for act in await log_of(admin, scope=person.user_id)] == ["grant"]


@pytest.mark.parametrize(
    "query", [{"kind": "reserve"}, {"limit": 0}, {"scope": "a\0"}, {"x": "1"}, {"cursor": "made-up"}]
)
async def test_bad_looks_at_the_log(admin: Caller, query: dict[str, str]) -> None:
    assert (await admin("GET", "/v1/admin/operations", params=query)).status_code in (400, 422)


@pytest.mark.parametrize(("statement", "scope"), [("acts", []), ("acts_of_scope", ["user_busy"])])
async def test_the_log_is_read_by_an_index_that_work_does_not_pay_for(
    world: World, statement: str, scope: list[str]
) -> None:
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            """SELECT ledger_remember('user_busy', kind || n, kind, sha256(''), '{}', now() - make_interval(secs => n))
               FROM generate_series(1, 2000) n, unnest(ARRAY['reserve', 'capture', 'grant']) kind"""
        )
        await connection.execute("ANALYZE credit_operations")
        arguments = [None, None, None, None, 20, *scope]
        plan = await connection.fetch(f"EXPLAIN {operations._SQL[statement]}", *arguments)
        await transaction.rollback()
    index = "credit_operations_acts_of_scope" if scope else "credit_operations_acts"
    assert f" {index} " in "\n".join(row[0] for row in plan)


# ---------------------------------------------------------------------------------------------- who hears of it


async def test_the_persons_open_pages_are_told(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    generation_id = await charged(world, person)
    grant = {"user_id": person.user_id, "amount": 1, "kind": "promo", "source_ref": "more"}
    for act in (
        admin("POST", "/v1/admin/grants", json=grant),
        adjust(admin, person),
        reverse(admin, generation_id=generation_id),
        reverse(admin, user_id=person.user_id, kind="promo", source_ref="more"),
        admin("PATCH", f"/v1/admin/people/{person.user_id}", json={"overdraft_limit": 1}),
    ):
        with world.state.hub.listen(person.user_id) as told:
            assert (await act).is_success
            assert told.heard
    with world.state.hub.listen(f"somebody-{person.user_id}") as told:
        await admin("PUT", f"/v1/admin/plans/news-{uuid4().hex[:8]}", json={})
        assert told.heard, "everybody's plan may be the one"


# ---------------------------------------------------------------------------------------------- who may

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


# ---------------------------------------------------------------------------------------------- mistakes, undone


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
