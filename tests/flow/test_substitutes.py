"""The result of the pursued attempt is lost: which other attempt may stand in for it, and which has nothing to give."""

from tests.flow.again import sent_and_never_heard_of, try_again
from tests.flow.slow_call import sending
from tests.flow.test_gaps import given_up
from tests.flow.twice import PURSUED, lost, says, the_first_ends_and_is_dropped, two_attempts
from tests.flow.world import World, pictures
from worker import finish, poll, submit, sweep


async def test_one_that_failed_has_no_result_either(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await poll.poll_once(world.context)
    world.runpod.take("image")
    world.runpod.fail(second.id, "out of memory")
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    await lost(world)
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)


async def test_one_of_an_earlier_round_is_pursued_if_it_completed(world: World) -> None:
    """Both ended after the refund. The first is dropped, the second is there, and nothing is bought."""
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    first, second = world.runpod.jobs("image")
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)
    await try_again(world, person, generation_id)
    await sweep.sweep_once(world.context)
    assert await world.value(PURSUED, generation_id) == 1
    assert await world.value("SELECT orphaned_at FROM generation_attempts WHERE attempt = 1") is None
    await lost(world)
    assert await world.value(PURSUED, generation_id) == 2
    assert await world.value("SELECT heard_attempt FROM generations WHERE id = $1", generation_id) == 2
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert world.runpod.jobs("image") == [second]
    assert await world.value("SELECT orphaned_at FROM generation_attempts WHERE attempt = 2") is None


async def test_one_that_completed_comes_before_one_that_may(world: World) -> None:
    """Two of an earlier round and one of this: of those that are left, the one with a result."""
    person = await world.person()
    generation_id = await sent_and_never_heard_of(world, person)
    first, second = world.runpod.jobs("image")
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    third = world.runpod.jobs("image")[-1]
    assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
    for job in (second, first):
        world.runpod.complete(job.id, pictures(1))
        await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)
    await lost(world)
    assert await world.value(PURSUED, generation_id) == 2
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert third.state == "CANCELLED"


async def test_one_that_runpod_never_named_cannot_be_asked_about(world: World) -> None:
    person = await world.person()
    generation_id = await given_up(world, person)
    await submit.claim(world.context, 10)
    (first,) = world.runpod.jobs("image")
    await the_first_ends_and_is_dropped(world, first)
    await world.pass_time(world.context.settings.lease)
    await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "submitted"
    await lost(world)
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)


async def test_an_orphan_is_no_substitute(world: World) -> None:
    """It is cancelled, or about to be: what it may still make is not waited for."""
    person = await world.person()
    generation_id = await world.ask(person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        await person.http.post(f"/v1/generations/{generation_id}/cancel")
        for duration in (world.context.settings.lease, world.context.settings.submit_grace):
            await world.pass_time(duration)
            await sweep.sweep_once(world.context)
        await try_again(world, person, generation_id)
        await submit.submit_once(world.context)
    _, second = world.runpod.jobs("image")
    world.runpod.forget(second.id)
    await world.pass_time(world.context.settings.lost_grace)
    await poll.poll_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    await world.settle_all()
    assert await world.credits_of(person) == (100, 0)


async def test_one_whose_answer_was_found_wanting_is_no_substitute(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, "not a picture")
    await finish.finish_once(world.context)
    await says(world, generation_id, 1, world.runpod.jobs("image")[0].id)
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    _, second = world.runpod.jobs("image")
    world.runpod.forget(second.id)
    await lost(world)
    assert (await world.reasons(generation_id))[-1] == "result-lost"
    assert await world.credits_of(person) == (100, 0)
