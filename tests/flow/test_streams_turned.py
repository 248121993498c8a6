"""Streams of attempts that are left for another one and turned to again: RunPod gives each chunk once."""

from pathlib import Path
from uuid import UUID

import pytest

from tests.flow.again import try_again
from tests.flow.test_gaps import given_up
from tests.flow.texts import NOT_AT_ALL, NOW, PRICE, claimed, drain, lease_runs_out, shown, text_of, trouble
from tests.flow.twice import PURSUED, lost, says
from tests.flow.world import Person, World, open_world
from tests.local.runpod.jobs import Job
from worker import finish, poll, stream, submit, sweep


async def written_twice(world: World, person: Person, *said: str) -> tuple[UUID, Job, Job]:
    """RunPod has both attempts; the second is pursued, and so much of it was read."""
    generation_id = await given_up(world, person, type="text")
    await submit.submit_once(world.context)
    first, second = world.runpod.jobs("text")
    assert [world.runpod.take("text"), world.runpod.take("text")] == [first, second]
    for chunk in said:
        world.runpod.stream(second.id, chunk)
    if said:
        await drain(world)
    return generation_id, first, second


async def the_first_completes(world: World, first: Job) -> None:
    """It is pursued from now on; RunPod has dropped its result."""
    world.runpod.complete(first.id, ["what nobody reads"])
    await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)
    await poll.poll_once(world.context)
    assert await world.value("SELECT attempt FROM generations") == 1


async def the_second_is_superseded(world: World, first: Job) -> None:
    await the_first_completes(world, first)
    await drain(world)
    assert await trouble(world) == "superseded"


async def the_first_is_lost(world: World) -> None:
    await lost(world)
    assert await world.value("SELECT attempt FROM generations") == 2


async def the_person_cancels(world: World, person: Person, generation_id: UUID) -> None:
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "cancelled"


async def read_to_its_end(world: World) -> None:
    """Whatever there is to read is read, and it is settled."""
    for _ in range(3):
        await world.poll_now()
        await world.execute("UPDATE generations SET due_at = now() WHERE state = 'finishing'")
        await finish.finish_once(world.context)
        await drain(world)
    await world.settle_all()


async def test_what_was_superseded_in_a_cancelled_round_is_not_sold_without_its_beginning(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await the_second_is_superseded(world, first)
    await the_person_cancels(world, person, generation_id)
    world.runpod.stream(second.id, "two")
    world.runpod.complete(second.id)
    await world.runpod.deliver_webhooks()
    await try_again(world, person, generation_id)
    await sweep.sweep_once(world.context)
    await the_first_is_lost(world)
    await read_to_its_end(world)
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)


async def test_what_was_superseded_by_one_that_failed_is_read_on(world: World) -> None:
    """The first completed with an error in its output, the second before anybody cancelled it."""
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    world.runpod.complete(first.id, {"error": "out of memory"})
    await world.runpod.deliver_webhooks()
    await poll.claim(world.context, 10)  # turns to the first, and dies
    await drain(world)
    assert await trouble(world) == "superseded"
    world.runpod.stream(second.id, "two")
    world.runpod.complete(second.id)
    await world.runpod.deliver_webhooks()
    await world.execute("UPDATE generations SET due_at = now(), lease_token = NULL")
    await poll.poll_once(world.context)
    await finish.finish_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def test_what_was_superseded_unread_is_read_in_the_next_round(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await written_twice(world, person)
    await the_second_is_superseded(world, first)
    await the_person_cancels(world, person, generation_id)
    await world.execute("UPDATE webhook_receipts SET received_at = received_at - interval '26 minutes'")
    await try_again(world, person, generation_id)
    await submit.submit_once(world.context)
    assert await world.value(PURSUED, generation_id) == 3, "what was heard is too old: it is made anew"
    world.runpod.stream(second.id, "one ")
    world.runpod.stream(second.id, "two")
    world.runpod.complete(second.id)
    await world.runpod.deliver_webhooks()
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def test_one_that_was_interrupted_and_superseded_is_read_on(charging: World) -> None:
    """What comes of it is sold, and so is what comes after the turn."""
    world = charging
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await claimed(world)
    await lease_runs_out(world)
    await drain(world)
    await the_first_completes(world, first)
    await drain(world)
    assert await world.value("SELECT ended_at IS NOT NULL FROM generation_streams")
    await the_first_is_lost(world)
    world.runpod.stream(second.id, "two")
    await drain(world)
    assert await shown(world, generation_id) == "one two"
    assert await trouble(world) == "interrupted", "nobody knows whether it lacks something"
    world.runpod.complete(second.id)
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def test_one_that_was_interrupted_and_had_been_read_to_its_end_settles(charging: World) -> None:
    world = charging
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await claimed(world)
    await lease_runs_out(world)
    world.runpod.complete(second.id)
    await drain(world)
    await the_first_completes(world, first)
    await the_first_is_lost(world)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one "
    assert await world.charged(generation_id) == PRICE


async def test_one_that_was_interrupted_in_an_earlier_round_is_not_read_on(charging: World) -> None:
    """Its beginning was thrown away with the round."""
    world = charging
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await claimed(world)
    await lease_runs_out(world)
    await drain(world)
    await the_first_completes(world, first)
    await the_person_cancels(world, person, generation_id)
    assert await trouble(world) == "interrupted"
    world.runpod.stream(second.id, "two")
    world.runpod.complete(second.id)
    await world.runpod.deliver_webhooks()
    await try_again(world, person, generation_id)
    await sweep.sweep_once(world.context)
    await the_first_is_lost(world)
    await read_to_its_end(world)
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)


async def test_one_that_is_pursued_again_is_not_superseded(world: World) -> None:
    """Its reader knew only of the turn away from it."""
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await the_first_completes(world, first)
    reader = await claimed(world)
    await the_first_is_lost(world)
    await stream.follow(world.context, reader, ending=NOW)
    assert await trouble(world) is None
    world.runpod.stream(second.id, "two")
    assert await stream.stream_once(world.context) == 1, "it was given back, and is due"
    assert await shown(world, generation_id) == "one two"
    world.runpod.complete(second.id)
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def a_look_is_under_way(world: World, first: Job, second: Job) -> None:
    """While it waits for RunPod, the first completes, and proves lost only later."""
    reader = await claimed(world)
    await the_first_completes(world, first)
    world.runpod.stream(second.id, "two ")
    await stream.follow(world.context, reader, ending=NOW)
    await the_first_is_lost(world)
    world.runpod.stream(second.id, "three")
    await drain(world)
    world.runpod.complete(second.id)
    assert await trouble(world) is None


async def test_what_a_look_brings_while_another_is_pursued_is_kept(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    await a_look_is_under_way(world, first, second)
    assert await shown(world, generation_id) == "one two three", "nobody sees a text with a hole"
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two three"
    assert await world.charged(generation_id) == PRICE


async def test_what_the_first_look_brings_while_another_is_pursued_is_kept(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await written_twice(world, person)
    await a_look_is_under_way(world, first, second)
    assert await shown(world, generation_id) == "two three"
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "two three"
    assert await world.charged(generation_id) == PRICE


async def test_nothing_is_shown_of_the_other_once_a_result_is_here(world: World) -> None:
    """It is the text from now on. What a look at the other's stream brings is kept until that is settled."""
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    reader = await claimed(world)
    world.runpod.complete(first.id, ["one "])
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "finishing"
    world.runpod.stream(second.id, "two")
    read = await world.context.runpod.stream("text", second.id, hold=NOT_AT_ALL)
    assert await stream.heed(world.context, reader, read) is not None
    assert await shown(world, generation_id) == "one "
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one "
    assert await world.charged(generation_id) == PRICE
    assert not await world.value("SELECT count(*) FROM generation_drains")


async def test_what_is_read_of_the_other_beside_a_useless_answer_is_its_text(world: World) -> None:
    person = await world.person()
    generation_id, first, second = await written_twice(world, person, "one ")
    reader = await claimed(world)
    world.runpod.complete(first.id, {"error": "out of memory"})
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "finishing"
    world.runpod.stream(second.id, "two")
    await stream.follow(world.context, reader, ending=NOW)
    await finish.finish_once(world.context)
    assert await world.value(PURSUED, generation_id) == 2
    world.runpod.complete(second.id)
    await read_to_its_end(world)
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


@pytest.mark.parametrize("policy", ["charge", "refund"])
async def test_a_broken_text_is_not_sold_when_the_whole_is_known(
    database_url: str, redis_url: str, tmp_path: Path, policy: str
) -> None:
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, broken_stream=policy
    ) as world:
        person = await world.person()
        generation_id, first, second = await written_twice(world, person, "one ")
        world.runpod.complete(first.id, ["one two three"])
        world.runpod.fail(second.id, "out of memory")
        await world.poll_now()
        assert await world.state(generation_id) == "finishing"
        await says(world, generation_id, 1, first.id)
        await read_to_its_end(world)
        assert await text_of(world, person, generation_id) == "one two three"
        assert await world.charged(generation_id) == PRICE
