"""Trying again: a generation that ended without a result gets another round, and is charged once over all of them."""

import asyncio

import asyncpg
import pytest

from shared import ledger, pricing
from shared.errors import HoldExists
from shared.generations import MAXIMUM_RETRIES, Type
from shared.verify import verify
from tests.flow.again import failed, holds, sent_and_never_heard_of, try_again
from tests.flow.test_gaps import given_up
from tests.flow.world import World, pictures
from worker import audit, finish, submit, sweep


async def test_what_failed_is_held_again_and_charged_once(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    assert await world.credits_of(person) == (100, 0)
    reply = await try_again(world, person, generation_id)
    assert (reply["id"], reply["status"], reply["retries"]) == (str(generation_id), "reserved", 1)
    assert reply["cost"]["held"] == 5
    assert reply["error"] is None
    assert await world.credits_of(person) == (95, 5)
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.path(generation_id) == [
        *("reserved", "submitting", "submitted", "finishing", "failed"),
        *("reserved", "submitting", "submitted", "finishing", "completed"),
    ]
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert await world.attempts(generation_id) == ["accepted", "accepted"]
    assert await holds(world, generation_id) == [(1, "released", 0), (2, "captured", 5)]
    entries = await person.http.get("/v1/credits/entries", params={"generation_id": str(generation_id)})
    assert entries.status_code == 200
    assert [entry["kind"] for entry in entries.json()["data"]] == ["capture", "reserve", "release", "reserve"]


async def test_one_key_begins_one_round(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    key = {"idempotency-key": "again"}
    first = await try_again(world, person, generation_id, **key)
    second = await person.http.post(f"/v1/generations/{generation_id}/retry", headers=key)
    assert (second.status_code, second.headers["idempotent-replayed"]) == (202, "true")
    assert second.json() == first
    other = await failed(world, person)
    reused = await person.http.post(f"/v1/generations/{other}/retry", headers=key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency-key-reused")
    assert await world.credits_of(person) == (95, 5)
    assert len(await holds(world, generation_id)) == 2
    await world.settle_all()


async def test_two_at_once_begin_one_round(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    path = f"/v1/generations/{generation_id}/retry"
    replies = await asyncio.gather(*(person.http.post(path) for _ in range(6)))
    assert sorted(reply.status_code for reply in replies) == [202, *[409] * 5]
    assert await world.credits_of(person) == (95, 5)
    assert await world.value("SELECT retries FROM generations WHERE id = $1", generation_id) == 1


async def test_only_what_ended_without_a_result_and_is_ones_own(world: World) -> None:
    person, stranger = await world.person(), await world.person()
    generation_id = await world.submitted(person)
    open_one = await person.http.post(f"/v1/generations/{generation_id}/retry")
    assert (open_one.status_code, open_one.json()["generation_status"]) == (409, "submitted")
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    completed = await person.http.post(f"/v1/generations/{generation_id}/retry")
    assert (completed.status_code, completed.json()["generation_status"]) == (409, "completed")
    lost = await failed(world, person)
    assert (await stranger.http.post(f"/v1/generations/{lost}/retry")).status_code == 404
    assert await world.credits_of(person) == (95, 0)
    await world.execute("UPDATE generations SET created_at = created_at - interval '8 days' WHERE id = $1", lost)
    assert (await person.http.post(f"/v1/generations/{lost}/retry")).status_code == 409
    assert not (await person.http.get(f"/v1/generations/{lost}")).json()["retryable"]


async def test_who_cannot_pay_is_told_and_nothing_is_done(world: World) -> None:
    person = await world.person(credits_granted=5)
    generation_id = await failed(world, person)
    spent = await world.ask(person)
    refused = await person.http.post(f"/v1/generations/{generation_id}/retry", headers={"idempotency-key": "k"})
    assert (refused.status_code, refused.json()["code"], refused.json()["required"]) == (402, "insufficient-credits", 5)
    assert await world.state(generation_id) == "failed"
    await person.http.post(f"/v1/generations/{spent}/cancel")
    await world.settle_all()
    await try_again(world, person, generation_id, **{"idempotency-key": "k"})
    assert await world.credits_of(person) == (0, 5)
    await world.settle_all()


async def test_it_costs_what_was_agreed_whatever_the_price_is_now(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    async with world.context.pool.acquire() as connection, connection.transaction():
        await pricing.add(connection, key="dearer", generation_type=Type.IMAGE, unit_credits=50, actor="owner")
    assert (await try_again(world, person, generation_id))["cost"]["held"] == 5
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_again_and_again_but_not_for_ever(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    for _ in range(MAXIMUM_RETRIES):
        await try_again(world, person, generation_id)
        await submit.submit_once(world.context)
        job = world.runpod.take("image")
        assert job is not None
        world.runpod.fail(job.id, "out of memory")
        await world.poll_now()
        await finish.finish_once(world.context)
    assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 409
    assert len(world.runpod.calls_to("run")) == 1 + MAXIMUM_RETRIES
    assert await world.credits_of(person) == (100, 0)


@pytest.mark.parametrize("when", ["reserved", "submitting", "submitted", "running", "finishing"])
async def test_a_round_is_cancelled_at_every_stage_and_tried_again(world: World, when: str) -> None:
    """The ledger's part of a cancel: what was held comes back, at every stage but the last; and it can begin again."""
    person = await world.person()
    generation_id = await failed(world, person)
    await try_again(world, person, generation_id)
    cancel = f"/v1/generations/{generation_id}/cancel"
    claimed = [] if when == "reserved" else await submit.claim(world.context, 10)
    if when not in ("reserved", "submitting"):
        await submit.send_all(world.context, claimed)
    if when == "running":
        assert world.runpod.take("image") is not None
        await world.poll_now()
    if when == "finishing":
        world.work_off("image", pictures(1))
        await world.poll_now()
    assert await world.state(generation_id) == when
    reply = await person.http.post(cancel)
    if when == "submitting":
        await submit.send_all(world.context, claimed)
    await world.settle_all()
    if when == "finishing":
        assert reply.status_code == 409
        assert await world.charged(generation_id) == 5
        assert await holds(world, generation_id) == [(1, "released", 0), (2, "captured", 5)]
        return
    assert reply.status_code == 202
    assert (await world.path(generation_id))[-1] == "cancelled"
    assert await world.credits_of(person) == (100, 0)
    assert await holds(world, generation_id) == [(1, "released", 0), (2, "released", 0)]
    assert (await try_again(world, person, generation_id))["retries"] == 2
    assert await world.credits_of(person) == (95, 5)
    await world.settle_all()


async def test_each_round_has_attempts_of_its_own_and_no_more(world: World) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    await try_again(world, person, generation_id)
    for _ in range(2):
        assert len(await submit.claim(world.context, 10)) == 1
        for duration in (world.context.settings.lease, world.context.settings.submit_grace):
            await world.pass_time(duration)
            await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert await world.attempts(generation_id) == ["unknown"] * 2 * sweep.MAXIMUM_ATTEMPTS
    assert await world.credits_of(person) == (100, 0)


async def test_what_has_ended_begins_again_under_a_new_hold_only(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    begin = """UPDATE generations SET state = 'reserved', charged = NULL, finished_at = NULL, error_code = NULL,
               due_at = now(), deadline_at = now(), retries = retries + $2, retried_at = now(), hold_id = $3
               WHERE id = $1"""
    other = await world.ask(person)
    own, taken = [
        await world.value("SELECT hold_id FROM generations WHERE id = $1", each) for each in (generation_id, other)
    ]
    for retries, hold_id in ((1, own), (0, taken), (2, taken)):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await world.execute(begin, generation_id, retries, hold_id)
        assert refused.value.sqlstate == "TWS01"
    await world.settle_all()


async def test_a_hold_that_nobodys_round_is_for_is_found(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    price = await world.value("SELECT price FROM credit_holds WHERE generation_id = $1", generation_id)
    ends = await world.value("SELECT now() + interval '1 day'")
    async with world.context.pool.acquire() as connection:
        held = await ledger.reserve(
            connection,
            user_id=person.user_id,
            key="by hand",
            generation_id=generation_id,
            amount=5,
            expires_at=ends,
            price=price,
        )
        found = [finding async for finding in verify(connection, user_id=person.user_id)]
        assert [(f.kind, f.key) for f in found] == [("hold-beside-another", str(held.hold_id))]
        with pytest.raises(HoldExists):
            await ledger.reserve(
                connection,
                user_id=person.user_id,
                key="again",
                generation_id=generation_id,
                amount=5,
                expires_at=ends,
                price=price,
            )
        assert held.hold_id is not None
        await ledger.release(connection, hold_id=held.hold_id, key="put right", reason="a test")
        # What is left of it would be the next round's place: the books name it until it is one.
        await connection.execute(
            "UPDATE generations SET retries = 1, retried_at = now(), hold_id = $2 WHERE id = $1",
            generation_id,
            held.hold_id,
        )
        assert [finding async for finding in verify(connection, user_id=person.user_id)] == []


async def test_the_audit_sees_an_attempt_too_many(world: World) -> None:
    person = await world.person()
    generation_id = await given_up(world, person)
    await world.execute(
        "INSERT INTO generation_attempts (generation_id, attempt, endpoint, endpoint_id, outcome) "
        "SELECT $1, n, 'image', 'image', 'unknown' FROM generate_series(2, 3) n",
        generation_id,
    )
    assert (await audit.audit_once(world.context))["submissions_are_bounded"] == 1
    await world.execute("UPDATE generations SET earlier_attempts = 1 WHERE id = $1", generation_id)
    assert (await audit.audit_once(world.context))["submissions_are_bounded"] == 0
    await world.execute("UPDATE generations SET earlier_attempts = 0 WHERE id = $1", generation_id)
    await world.execute("DELETE FROM generation_attempts WHERE attempt = 3")


async def test_an_answer_is_forgotten_after_a_season_but_not_that_it_was_read(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    await try_again(world, person, generation_id)
    await sweep.prune(world.context)
    assert await world.value("SELECT answer FROM generation_retries") is not None
    await world.execute("UPDATE generation_retries SET retried_at = now() - interval '91 days'")
    await sweep.prune(world.context)
    assert await world.value("SELECT answer FROM generation_retries") is None
    assert await world.value("SELECT answered_attempt FROM generation_retries") == 1
    await world.settle_all()


async def test_it_takes_a_new_place_in_the_line_and_waits_behind_the_persons_own(world: World) -> None:
    person = await world.person()
    await world.limit(person, 1)
    generation_id = await failed(world, person)
    place = await world.value("SELECT vstart FROM generations WHERE id = $1", generation_id)
    other = await world.submitted(person)
    await try_again(world, person, generation_id)
    assert await world.value("SELECT held_back FROM generations WHERE id = $1", generation_id)
    assert await world.value("SELECT vstart FROM generations WHERE id = $1", generation_id) > place
    assert await submit.submit_once(world.context) == 0
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(other) == 5
    assert await world.state(generation_id) == "submitted", "let in when the other one ended"
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_whoever_follows_it_hears_of_every_round(world: World) -> None:
    person = await world.person()
    generation_id = await failed(world, person)
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    stream = await person.http.get(f"/v1/generations/{generation_id}/events")
    assert [line for line in stream.text.splitlines() if line.startswith("id: ")] == [f"id: {n}" for n in range(1, 11)]
