"""A hold that ran out before its generation ended, and a truth that broke: both are seen."""

from datetime import UTC, datetime, timedelta

from shared import ledger
from tests.flow.world import World, pictures
from worker import audit, finish, submit


async def test_a_result_after_its_hold_expired_is_charged_all_the_same_and_flagged(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    async with world.context.pool.acquire() as connection:
        in_a_week = datetime.now(UTC) + timedelta(days=7)
        assert (await ledger.expire_due(connection, limit=10, now=in_a_week)).holds == 1
    assert await world.credits_of(person) == (100, 0), "the hold has run out"
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert await world.value("SELECT late FROM credit_holds WHERE generation_id = $1", generation_id)


async def test_who_waits_for_their_turn_is_not_left_lying(world: World) -> None:
    """Its endpoint is paused for a while, or a crowd is before it: nobody need be called for that."""
    person = await world.person()
    world.runpod.weather.order("paused")
    generation_id = await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    await world.execute("UPDATE generations SET due_at = now() - interval '6 minutes' WHERE id = $1", generation_id)
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "reserved"
    assert (await audit.audit_once(world.context))["nothing_is_left_lying"] == 0
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await world.execute("UPDATE generations SET due_at = now() - interval '6 minutes' WHERE id = $1", generation_id)
    assert (await audit.audit_once(world.context))["nothing_is_left_lying"] == 1, "that is for the sweep to see"
    await world.settle_all()


async def test_audits_find_what_must_not_be(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    assert not any((await audit.audit_once(world.context)).values())
    await world.execute("UPDATE generations SET due_at = now() - interval '1 hour' WHERE id = $1", generation_id)
    assert (await audit.audit_once(world.context))["nothing_is_left_lying"] == 1
    await world.settle_all()
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    await world.tamper("UPDATE generations SET charged = 4 WHERE id = $1", generation_id)
    assert (await audit.audit_once(world.context))["charge_matches_hold"] == 1
    await world.execute("UPDATE generations SET charged = 5 WHERE id = $1", generation_id)
