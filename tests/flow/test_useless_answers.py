"""Two attempts of one generation, and the pursued one's answer gives nothing: the other's result was paid for, too."""

from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import structlog

from shared.generations import Type
from tests.flow.again import try_again
from tests.flow.twice import ANSWERED, LOST, NAMED, ORPHANS, PURSUED, is_delivered, says, two_attempts
from tests.flow.world import World, pictures
from tests.local.runpod.jobs import Job
from worker import finish, poll, submit, sweep
from worker.attempts import give_up
from worker.endpoints import Endpoints

PATIENCE = "SELECT deadline_at - due_at FROM generations WHERE id = $1"
STARTED = "SELECT started_at FROM generations WHERE id = $1"
USELESS = {
    "an error in it": {"error": "out of memory"},
    "no picture": "not a picture",
    "nothing": {},
    "not what was ordered": {"images": ["data:image/png;base64,bm9uZQ=="]},
}


async def the_second_fails(world: World, second: Job) -> None:
    """It is the one that is pursued."""
    first, *_ = world.runpod.jobs("image")
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    await world.poll_now()
    world.runpod.fail(second.id, "out of memory")
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)


async def the_first_gives(world: World, first: Job, output: object) -> None:
    """Its webhook says COMPLETED, and it is read."""
    assert world.runpod.take("image") is first
    world.runpod.complete(first.id, output)
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)


async def test_one_that_runpod_never_named_is_not_waited_for(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_second_fails(world, second)
    assert await world.value(ORPHANS) is None, "a failure cancels nothing"
    await finish.finish_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "model-failed"
    assert await world.credits_of(person) == (100, 0)
    assert first.state == "IN_PROGRESS"


async def test_the_pursued_fails_and_the_other_is_known_to_run(world: World) -> None:
    """RunPod named it by a webhook of which only the id was of use."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await world.execute(NAMED, first.id)
    await the_second_fails(world, second)
    assert await world.value(STARTED, generation_id) is not None
    with structlog.testing.capture_logs() as said:
        await finish.finish_once(world.context)
    assert [entry["event"] for entry in said] == ["model.failed", "attempt.given_up", "generation.submitted"]
    assert await world.value(PURSUED, generation_id) == 1
    assert await world.value(STARTED, generation_id) is None, "that was the other"
    assert await world.value(PATIENCE, generation_id) == world.context.settings.queue_deadline
    await world.poll_now()
    assert await world.state(generation_id) == "running"
    world.runpod.complete(first.id, pictures(1))
    await world.poll_now()
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=1)


@pytest.mark.parametrize("ended", [True, False])
async def test_the_first_is_heard_of_and_fails_and_the_second_delivers(world: World, ended: bool) -> None:
    """The first one was heard of, so that it is pursued; its word was not true, or it was retried there."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    world.runpod.fail(first.id, "out of memory")
    await says(world, generation_id, 1, first.id)
    await poll.poll_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    if ended:
        world.runpod.complete(second.id, pictures(1))
        await world.runpod.deliver_webhooks()
    await sweep.sweep_once(world.context)
    await finish.finish_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    assert await world.state(generation_id) == "submitted"
    assert (await world.reasons(generation_id))[-1] == "another-attempt"
    if not ended:
        await world.poll_now()
        assert await world.state(generation_id) == "running"
        world.runpod.complete(second.id, pictures(1))
    await world.poll_now()
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=2)
    assert not world.runpod.calls_to("cancel")
    assert await world.value(LOST) is None, "it said itself that it has nothing"


@pytest.mark.parametrize("output", USELESS.values(), ids=USELESS)
@pytest.mark.parametrize("heard", [True, False])
async def test_the_first_gives_what_is_of_no_use(world: World, output: object, heard: bool) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, output)
    assert await world.value(ORPHANS) == [2], "it seemed to be the result"
    if heard:
        world.work_off("image", pictures(1))
        await world.runpod.deliver_webhooks()
    await finish.finish_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    assert await world.value(ORPHANS) is None
    assert await world.value(LOST) == [1]
    await sweep.cancel_orphans(world.context)
    if not heard:
        assert second.state == "IN_QUEUE"
        world.work_off("image", pictures(1))
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=2)


async def test_the_other_was_cancelled_before_the_answer_was_found_wanting(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, "not a picture")
    await sweep.cancel_orphans(world.context)
    assert second.state == "CANCELLED"
    await finish.finish_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "unreadable-output"
    assert await world.credits_of(person) == (100, 0)


async def test_the_other_had_completed_when_it_was_to_be_cancelled(world: World) -> None:
    """Its webhooks are lost: the cancel is how we hear of it."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, "not a picture")
    world.work_off("image", pictures(1))
    await sweep.cancel_orphans(world.context)
    assert second.state == "COMPLETED"
    await finish.finish_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=2)


async def test_both_give_nothing(world: World) -> None:
    """Refunded once; the last answer is kept for ops, and neither is turned to again."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, "not a picture")
    world.work_off("image", {"error": "out of memory"})
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert (await world.reasons(generation_id)).count("another-attempt") == 1
    assert (await world.reasons(generation_id))[-1] == "model-failed"
    assert await world.value(ANSWERED, generation_id) == 2
    assert await world.credits_of(person) == (100, 0)
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    assert len(world.runpod.jobs("image")) == 3, "it is made anew"
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert second.state == "COMPLETED"


async def test_whoever_cancelled_is_refunded_and_nothing_else_is_waited_for(world: World) -> None:
    person = await world.person()
    generation_id, first, _ = await two_attempts(world, person)
    assert world.runpod.take("image") is first
    world.runpod.complete(first.id, "not a picture")
    await world.runpod.deliver_webhooks()
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    world.work_off("image", pictures(1))
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)
    assert "another-attempt" not in await world.reasons(generation_id)


async def test_outputs_that_could_not_be_kept_are_not_all_there_is(world: World) -> None:
    """The first one's addresses never answered; the second put its picture into the answer."""
    person = await world.person()
    generation_id, first, _ = await two_attempts(world, person)
    await the_first_gives(world, first, {"images": ["https://93.184.215.14/1.png"]})
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.execute("UPDATE generations SET deadline_at = now(), due_at = now()")
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(503))) as outside:
        await finish.finish_once(replace(world.context, outside=outside))
    assert await world.value(PURSUED, generation_id) == 2
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=2)


async def test_a_worker_that_slept_gives_up_nothing(world: World) -> None:
    person = await world.person()
    generation_id, first, _ = await two_attempts(world, person)
    await the_first_gives(world, first, "not a picture")
    (slow,) = await finish.claim(world.context, 10)
    await world.execute("UPDATE generations SET due_at = now()")
    (owner,) = await finish.claim(world.context, 10)
    assert await give_up(world.context, slow, reason="late", actor="zombie") is None
    assert await give_up(world.context, owner, reason="unreadable-output", actor="test") is not None
    assert await give_up(world.context, owner, reason="twice", actor="test") is None
    world.work_off("image", pictures(1))
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=2)


async def test_the_404_of_the_other_has_a_grace_of_its_own(world: World) -> None:
    """It was sent later: RunPod may not show it yet."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, "not a picture")
    grace = world.context.settings.lost_grace
    await world.execute("UPDATE generations SET submitted_at = submitted_at - $1::interval", grace)
    await finish.finish_once(world.context)
    world.runpod.forget(second.id)
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "submitted"
    await world.pass_time(grace)
    await poll.poll_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)


async def test_the_other_has_the_deadline_of_its_own_endpoint(world: World) -> None:
    person = await world.person()
    (image,) = world.context.endpoints.of_type(Type.IMAGE)
    generation_id, first, second = await two_attempts(world, person)
    slow = replace(image, endpoint=replace(image.endpoint, name="slow"), queue_deadline=timedelta(hours=1))
    there = replace(world.context, endpoints=Endpoints([replace(image, queue_deadline=timedelta(seconds=20)), slow]))
    await world.execute(NAMED, first.id)
    await world.execute("UPDATE generation_attempts SET endpoint = 'slow' WHERE attempt = 1")
    await the_second_fails(world, second)
    await finish.finish_once(there)
    assert await world.value(PURSUED, generation_id) == 1
    assert await world.value(PATIENCE, generation_id) == timedelta(hours=1)


async def test_what_the_other_took_is_not_what_the_given_up_took(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await world.execute(NAMED, first.id)
    await the_second_fails(world, second)
    await world.execute("UPDATE generations SET delay_ms = 3000, execution_ms = 7000")
    await finish.finish_once(world.context)
    assert (
        await world.value("SELECT num_nulls(delay_ms, execution_ms) FROM generations WHERE id = $1", generation_id) == 2
    )
