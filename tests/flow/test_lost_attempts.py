"""Two attempts of one generation, and the result of the pursued one is lost: the other may have what was paid for."""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import httpx
import pytest
import structlog

from tests.flow.again import try_again
from tests.flow.slow_call import sending
from tests.flow.test_gaps import given_up
from tests.flow.test_large_answers import Results
from tests.flow.texts import PRICE, drain, text_of, trouble
from tests.flow.twice import LOST, PURSUED, lost, says, the_first_ends_and_is_dropped, two_attempts
from tests.flow.world import World, pictures
from worker import poll, pursuit, submit, sweep
from worker.answers import MAXIMUM_ANSWER_BYTES
from worker.runpod import RunPod, open_http


async def test_the_later_attempt_is_pursued_again_and_delivers(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    with structlog.testing.capture_logs() as said:
        await poll.poll_once(world.context)
    assert [(entry["event"], entry["attempt"]) for entry in said] == [("generation.submitted", 1)]
    assert await world.value(PURSUED, generation_id) == 1
    await sweep.sweep_once(world.context)
    assert second.state == "IN_QUEUE", "it is what remains if the first one's result is lost"
    await lost(world)
    assert await world.value(PURSUED, generation_id) == 2
    assert await world.value(LOST) == [1]
    assert (await world.reasons(generation_id))[-3:] == ["accepted-by-runpod", "earlier-attempt", "another-attempt"]
    world.work_off("image", pictures(1))
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert not world.runpod.calls_to("cancel")


async def test_both_had_ended_while_no_worker_ran_for_longer_than_the_deadline(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    for job in (second, first):
        world.runpod.complete(job.id, pictures(1))
        await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)
    await world.pass_time(world.context.settings.queue_deadline + timedelta(seconds=1))
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.value(LOST) == [1]


async def test_an_answer_that_is_more_than_we_take_is_lost_like_one_that_is_gone(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert world.runpod.take("image") is first
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    huge = httpx.MockTransport(Results(MAXIMUM_ANSWER_BYTES + 1))
    async with open_http(world.context.settings, transport=huge) as http:
        await poll.poll_once(replace(world.context, runpod=RunPod(http)))
    assert await world.value(PURSUED, generation_id) == 2
    world.work_off("image", pictures(1))
    await world.settle_all()
    assert second.state == "COMPLETED"
    assert await world.charged(generation_id) == 5


async def test_a_lost_attempt_that_says_again_that_it_completed_is_not_turned_to(world: World) -> None:
    person = await world.person()
    generation_id, first, _ = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await lost(world)
    await says(world, generation_id, 1, first.id)
    assert await world.value("SELECT heard_attempt FROM generations WHERE id = $1", generation_id) is None
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_when_both_are_lost_the_person_is_refunded_and_the_next_round_waits_for_neither(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await lost(world)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    world.runpod.forget(second.id)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)
    assert await world.value(LOST) == [1, 2]
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "submitted", "it is made anew"
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_whoever_cancelled_meanwhile_gets_it_cancelled(world: World) -> None:
    """All that may run there is told to stop."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await world.pass_time(world.context.settings.lost_grace)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await world.settle_all()
    assert await world.state(generation_id) == "cancelled"
    assert second.state == "CANCELLED"
    assert await world.credits_of(person) == (100, 0)


async def test_a_worker_that_slept_turns_nothing(world: World) -> None:
    person = await world.person()
    generation_id, first, _ = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    (slow,) = await poll.claim(world.context, 10)
    await world.execute("UPDATE generations SET due_at = now()")
    (owner,) = await poll.claim(world.context, 10)
    async with world.context.pool.acquire() as connection:
        turn = partial(
            pursuit.turn_to_another,
            connection,
            given_up=True,
            still_there=False,
            wait=timedelta(0),
            queue_deadlines={"": timedelta(minutes=1)},
            reason="result-lost",
            actor="test",
        )
        assert await turn(slow) is None
        assert await world.value(LOST) is None
        turned = await turn(owner)
    assert turned is not None
    assert turned.attempt == 2
    world.work_off("image", pictures(1))
    await world.settle_all()
    assert await world.charged(generation_id) == 5


@pytest.mark.parametrize("told", ["by its webhook", "by its submit"])
async def test_the_second_is_heard_of_after_the_first_was_adopted(world: World, told: str) -> None:
    """Its submit was under way all the time: it is no orphan while the first one's result is not here."""
    person = await world.person()
    generation_id = await given_up(world, person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        first, second = world.runpod.jobs("image")
        await the_first_ends_and_is_dropped(world, first)
        await world.pass_time(world.context.settings.lease)
        await sweep.sweep_once(world.context)
        assert await world.value(PURSUED, generation_id) == 1
        assert await world.state(generation_id) == "submitted"
        if told == "by its webhook":
            world.work_off("image", pictures(1))
            await world.runpod.deliver_webhooks()
    await sweep.cancel_orphans(world.context)
    await lost(world)
    assert await world.value(PURSUED, generation_id) == 2
    world.work_off("image", pictures(1))
    await world.settle_all()
    assert second.state == "COMPLETED"
    assert await world.charged(generation_id) == 5


async def test_the_stream_of_the_later_attempt_goes_on_where_it_was(world: World) -> None:
    person = await world.person()
    generation_id = await given_up(world, person, type="text")
    await submit.submit_once(world.context)
    first, second = world.runpod.jobs("text")
    assert [world.runpod.take("text"), world.runpod.take("text")] == [first, second]
    world.runpod.stream(second.id, "one ")
    await drain(world)
    world.runpod.complete(first.id, ["what nobody reads"])
    await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)
    await poll.poll_once(world.context)
    world.runpod.stream(second.id, "two")
    await drain(world)
    assert await trouble(world) == "superseded"
    await lost(world)
    await drain(world)
    world.runpod.complete(second.id)
    await world.poll_now()
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE
