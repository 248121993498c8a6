"""Adjustments and reversals: once, bounded, and in the audit log."""

import asyncio

import pytest

from tests.api.admin.conftest import ADJUSTMENT, HOSTILE_REASONS, LATER, NOWHERE, adjust, charged, log_of, raw, reverse
from tests.api.conftest import Caller, World


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
