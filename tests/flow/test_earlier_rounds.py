"""Rounds that are over: what RunPod still says of their attempts, to a round that is open or to none."""

from uuid import UUID

import pytest

from tests.flow.again import sent_and_never_heard_of, try_again
from tests.flow.slow_call import sending
from tests.flow.world import World, pictures
from worker import finish, poll, pursuit, settle, submit, sweep


async def test_a_result_that_comes_after_the_refund_is_recorded_and_not_charged(world: World) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)
    assert await world.value("SELECT count(*) FROM webhook_receipts WHERE remote_status = 'COMPLETED'") == 2


async def test_trying_again_finds_the_result_that_came_after_the_refund(world: World) -> None:
    """A win for the person, and for us: the result that we paid for is fetched, and no other is bought."""
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await try_again(world, person, generation_id)
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert (await world.reasons(generation_id)).count("adopted") == 1
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert len(world.runpod.jobs("image")) == 2, "nothing was sent for the second round"


@pytest.mark.parametrize("when", ["reserved", "submitting", "submitted"])
async def test_a_result_of_an_earlier_round_ends_the_round_that_is_open(world: World, when: str) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    first, second = world.runpod.jobs("image")
    await try_again(world, person, generation_id)
    claimed = [] if when == "reserved" else await submit.claim(world.context, 10)
    if when == "submitted":
        await submit.send_all(world.context, claimed)
    world.runpod.take("image")
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    if when == "submitting":
        await sweep.sweep_once(world.context)
        await submit.send_all(world.context, claimed)
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert await world.value("SELECT attempt FROM generations WHERE id = $1", generation_id) == 1
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    await world.runpod.deliver_webhooks()
    await sweep.cancel_orphans(world.context)
    others = [job for job in world.runpod.jobs("image") if job.id != first.id]
    # RunPod never named the second to us; what it cost is ours, and its word changes nothing.
    assert {job.state.value for job in others if job.id != second.id} <= {"CANCELLED"}
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.credits_of(person) == (95, 0)


async def test_a_failure_of_an_earlier_round_does_not_touch_the_one_that_is_open(world: World) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    first, second = world.runpod.jobs("image")
    await try_again(world, person, generation_id)
    for job in (first, second):
        world.runpod.take("image")
        world.runpod.fail(job.id, "out of memory")
    await world.runpod.deliver_webhooks()
    await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "reserved"
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert await world.value("SELECT attempt FROM generations WHERE id = $1", generation_id) == 3
    assert await world.charged(generation_id) == 5


@pytest.mark.parametrize("when", ["reserved", "submitted"])
async def test_an_answer_that_was_read_and_found_wanting_is_not_read_again(world: World, when: str) -> None:
    """RunPod delivers a webhook up to three times: the last one must not fail the round that followed."""
    person = await world.person()
    generation_id = await world.finishing(person, "not a picture")
    (job,) = world.runpod.jobs("image")
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    await try_again(world, person, generation_id)
    if when == "submitted":
        await submit.submit_once(world.context)
    await world.runpod.deliver_webhooks()
    assert await world.value("SELECT deliveries FROM webhook_receipts") == 1
    assert await world.value("SELECT heard_attempt FROM generations WHERE id = $1", generation_id) is None
    if when == "reserved":
        await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert await world.value("SELECT answered_attempt FROM generation_retries") == 1
    kept = await world.value("SELECT answer FROM generation_retries")
    assert job.id.encode() in kept


@pytest.mark.parametrize("rounds", [1, 2])
async def test_a_result_that_was_lost_after_its_webhook_is_not_waited_for_again(world: World, rounds: int) -> None:
    """Each time would cost the person one of their retries, and the wait that a 404 is given."""
    person = await world.person()
    generation_id = await world.submitted(person)
    (lost,) = world.runpod.jobs("image")
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    world.runpod.forget(lost.id)
    await world.pass_time(world.context.settings.lost_grace)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    for number in range(rounds):
        await try_again(world, person, generation_id)
        await submit.submit_once(world.context)
        assert len(world.runpod.calls_to("run")) == 2 + number, "it is made anew"
        if number + 1 < rounds:
            world.runpod.fail(getattr(world.runpod.take("image"), "id", ""), "out of memory")
            await world.poll_now()
            await world.settle_all()
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_a_worker_that_slept_through_the_end_of_its_round_writes_nothing(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await world.execute("UPDATE generations SET due_at = now()")
    (poller,) = await poll.claim(world.context, 10)
    await world.execute("UPDATE generations SET due_at = now()")
    (owner,) = await poll.claim(world.context, 10)
    await settle.fail(world.context, owner, code="run-deadline", detail="It took too long.", actor="test")
    world.work_off("image", pictures(1))
    await try_again(world, person, generation_id)
    for zombie in (poller, owner):
        assert await settle.fail(world.context, zombie, code="late", detail="late", actor="zombie") is None
        assert await poll.ask(world.context, zombie) is None, "what it read is not written down"
    assert await world.state(generation_id) == "reserved"
    assert await world.credits_of(person) == (95, 5)
    await world.settle_all()


async def test_a_submit_that_is_answered_in_the_next_round_is_an_orphan_and_cancelled(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        await person.http.post(f"/v1/generations/{generation_id}/cancel")
        for duration in (world.context.settings.lease, world.context.settings.submit_grace):
            await world.pass_time(duration)
            await sweep.sweep_once(world.context)
        assert await world.state(generation_id) == "cancelled"
        await try_again(world, person, generation_id)
    await world.settle_all()
    (orphan, job) = world.runpod.jobs("image")
    assert orphan.state == "CANCELLED"
    assert job.state == "IN_QUEUE"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_an_earlier_attempt_that_is_turned_to_is_no_orphan_any_more(world: World) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    first, _ = world.runpod.jobs("image")
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    world.runpod.take("image")
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    (claimed,) = await poll.claim(world.context, 10)
    assert claimed.attempt == 1
    orphans = "SELECT array_agg(attempt ORDER BY attempt) FROM generation_attempts WHERE orphaned_at IS NOT NULL"
    assert await world.value(orphans) == [2], "the third goes on until the first one's result is here"
    async with world.context.pool.acquire() as connection:
        assert (
            await pursuit.heed_earlier_attempt(
                connection, lease_token=claimed.lease_token or UUID(int=0), generation_ids=[claimed.id]
            )
            == []
        ), "it has been turned already"
    await world.pass_time(world.context.settings.lease)
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.value(orphans) == [2, 3]


async def test_a_result_that_runpod_has_dropped_by_now_is_not_waited_for(world: World) -> None:
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.execute("UPDATE webhook_receipts SET received_at = received_at - interval '26 minutes'")
    await try_again(world, person, generation_id)
    assert await world.value("SELECT heard_attempt FROM generations WHERE id = $1", generation_id) is None
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "submitted"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


@pytest.mark.parametrize("before", [True, False])
async def test_a_round_that_is_held_back_has_its_result_already(world: World, before: bool) -> None:
    """It came before or after the person asked again: either way it is fetched, and nothing waits in line for it."""
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    await world.submitted(person)
    await world.limit(person, 1)
    first, *_ = world.runpod.jobs("image")
    if not before:
        await try_again(world, person, generation_id)
        assert await world.value("SELECT held_back FROM generations WHERE id = $1", generation_id)
    world.runpod.take("image")
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    if before:
        await try_again(world, person, generation_id)
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert len(world.runpod.jobs("image")) == 3
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
