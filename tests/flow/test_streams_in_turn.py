"""Texts share few slots: what was made is drained before what is being written, and everybody's in turn."""

import asyncio
from datetime import timedelta
from uuid import UUID

from tests.flow.texts import NOW, drain, lease_runs_out, text_of, writing
from tests.flow.world import Person, World
from tests.local.runpod.jobs import Job
from worker import finish, stream
from worker.streamed import DRAIN_PATIENCE


async def written(world: World, person: Person) -> tuple[UUID, Job]:
    """The worker has written all of it, gives it at /stream alone, and RunPod's answer is here."""
    generation_id, job = await writing(world, person, "all ", "of it")
    world.runpod.complete(job.id)
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "finishing", "what is not drained would be lost to the person"
    return generation_id, job


async def whose_turn(world: World) -> str:
    """A slot is free: the person whose stream it goes to, and keeps it."""
    (one,) = await stream.claim(world.context, 1)
    return one.generation.user_id


async def test_what_was_made_is_drained_before_what_is_being_written(world: World) -> None:
    crowd, single = await world.person(), await world.person()
    for _ in range(3):
        await writing(world, crowd, "once ")
    await written(world, single)
    assert await whose_turn(world) == single.user_id, "though it has waited for the least"
    assert [await whose_turn(world) for _ in range(3)] == [crowd.user_id] * 3
    await lease_runs_out(world)
    await world.settle_all()


async def test_people_take_turns_however_many_texts_they_have(world: World) -> None:
    crowd, second, third = [await world.person() for _ in range(3)]
    for person in (crowd, crowd, crowd, crowd, second, second, third):
        await writing(world, person, "once ")
    turns = [await whose_turn(world) for _ in range(7)]
    assert turns[:3] == [crowd.user_id, second.user_id, third.user_id]
    assert turns[3:] == [crowd.user_id, second.user_id, crowd.user_id, crowd.user_id]
    await lease_runs_out(world)
    for _ in range(7):
        await drain(world)


async def test_who_has_had_their_turn_comes_after_others(world: World) -> None:
    """Whatever was before: somebody who was alone for long owes nothing for that."""
    crowd, single = await world.person(), await world.person()
    await writing(world, single, "mine ")
    for _ in range(5):
        await drain(world)
    texts = [(await writing(world, crowd, "once "))[0] for _ in range(3)]
    turns = []
    for _ in range(6):
        (one,) = await stream.claim(world.context, 1)
        turns.append(one.generation)
        await stream.follow(world.context, one, ending=NOW)
    assert [each.user_id for each in turns] == [single.user_id, crowd.user_id] * 3
    assert [each.id for each in turns[1::2]] == texts, "and of their own, each"


async def test_one_claim_shares_out_as_many_do(world: World) -> None:
    crowd, single = await world.person(), await world.person()
    for person in (crowd, crowd, crowd, single):
        await writing(world, person, "once ")
    claimed = await stream.claim(world.context, 2)
    assert {one.generation.user_id for one in claimed} == {crowd.user_id, single.user_id}
    await lease_runs_out(world)
    await drain(world)


async def test_a_text_that_was_made_waits_for_its_turn(world: World) -> None:
    """All slots are taken for longer than its patience: that begins with the first look."""
    person = await world.person()
    generation_id, _ = await written(world, person)
    for _ in range(3):
        await world.pass_time(DRAIN_PATIENCE)
        await world.execute("UPDATE generation_results SET received_at = received_at - $1::interval", DRAIN_PATIENCE)
        await finish.finish_once(world.context)
        assert await world.state(generation_id) == "finishing"
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "all of it"
    assert await world.charged(generation_id) == 1


async def test_a_look_that_brings_no_end_is_waited_for_so_long(world: World) -> None:
    """Who looked is away with what was read: nobody can tell what is missing, and nothing is sold."""
    person = await world.person()
    generation_id, job = await written(world, person)
    waited = (
        "UPDATE generation_streams SET awaited_at = awaited_at - $1::interval, looked_at = looked_at - $1::interval"
    )
    await world.execute(waited, DRAIN_PATIENCE)
    await stream.claim(world.context, 1)
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "finishing"
    await world.execute(waited, DRAIN_PATIENCE)
    await world.pass_time(timedelta(seconds=2))
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)
    assert job.state == "COMPLETED"


async def test_a_turn_that_never_comes_is_a_broken_text(world: World) -> None:
    """The finish deadline bounds every wait."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two")
    world.runpod.complete(job.id)
    await world.poll_now()
    await finish.finish_once(world.context)
    await world.pass_time(world.context.settings.finish_deadline)
    await finish.finish_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "stream-broken"
    assert await world.credits_of(person) == (100, 0)


async def test_a_turn_is_short_while_somebody_waits(world: World) -> None:
    """Its stream is not over, and it would be followed for longer if nobody else had a text."""
    crowd, single = await world.person(), await world.person()
    await writing(world, crowd, "once ")
    (first,) = await stream.claim(world.context, 1)
    await writing(world, single, "mine ")
    waiting = "UPDATE generation_streams SET due_at = due_at - $1::interval WHERE user_id = $2"
    await world.execute(waiting, stream.FOUND_NO_SLOT, single.user_id)
    async with asyncio.timeout(stream.TURN.total_seconds() / 2):
        await stream.follow(world.context, first, ending=asyncio.Event())
    assert await whose_turn(world) == single.user_id
    await lease_runs_out(world)
    for _ in range(2):
        await drain(world)
