"""More than a plan allows at once: the rest waits behind the person's own, and every way out of there is open."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from shared import generations
from shared.generations import HELD_BACK_DEADLINE, RESERVED_DEADLINE
from tests.flow.world import Person, World, pictures
from worker import audit, finish, submit, sweep


async def limited(world: World, limit: int) -> Person:
    """Somebody whose plan allows so many at once."""
    person = await world.person()
    await world.limit(person, limit)
    return person


@pytest.fixture
async def waiting(world: World) -> tuple[Person, list[UUID]]:
    """Somebody who may have one at once, and submitted three."""
    person = await limited(world, 1)
    return person, [await world.ask(person) for _ in range(3)]


async def test_one_after_the_other_comes_to_its_end(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    person, asked = waiting
    for generation_id in asked:
        assert await submit.submit_once(world.context) == 1
        assert await world.state(generation_id) == "submitted"
        assert await submit.submit_once(world.context) == 0
        world.work_off("image", pictures(1))
        await world.poll_now()
        await finish.finish_once(world.context)
        assert await world.state(generation_id) == "completed"
    assert await world.credits_of(person) == (85, 0)


async def test_what_is_held_back_can_be_cancelled_at_once(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    person, [first, second, third] = waiting
    await person.http.post(f"/v1/generations/{second}/cancel")
    await sweep.sweep_once(world.context)
    assert await world.state(second) == "cancelled"
    assert await world.credits_of(person) == (90, 10)
    assert await submit.submit_once(world.context) == 1
    assert [await world.state(one) for one in (first, third)] == ["submitted", "reserved"], "its end made no room"


async def test_an_end_that_is_not_a_success_makes_room_too(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    person, [first, second, _] = waiting
    await person.http.post(f"/v1/generations/{first}/cancel")
    await sweep.sweep_once(world.context)
    assert await submit.submit_once(world.context) == 1
    assert await world.state(second) == "submitted"


async def test_the_time_to_be_sent_begins_when_it_is_let_in(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    """The first is long at RunPod: that it takes its time is no reason to fail the others."""
    _, [_, second, third] = waiting
    await submit.submit_once(world.context)
    await world.pass_time(RESERVED_DEADLINE + timedelta(minutes=1))
    await sweep.sweep_once(world.context)
    assert [await world.state(one) for one in (second, third)] == ["reserved", "reserved"]
    await world.work_off_all("image")
    await world.pass_time(RESERVED_DEADLINE - timedelta(minutes=1))
    await sweep.sweep_once(world.context)
    assert await world.state(second) == "reserved", "it was let in just now"
    await world.pass_time(timedelta(minutes=2))
    await sweep.sweep_once(world.context)
    assert [await world.state(one) for one in (second, third)] == ["failed", "reserved"]
    await world.cancel_all()


async def test_nothing_is_held_back_for_ever(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    """The first is stuck at RunPod: the others are refunded in the end, and told that it was their plan's limit."""
    person, [_, second, third] = waiting
    await submit.submit_once(world.context)
    await world.pass_time(HELD_BACK_DEADLINE + timedelta(minutes=1))
    await sweep.sweep_once(world.context)
    assert [await world.state(one) for one in (second, third)] == ["failed", "failed"]
    assert await world.value("SELECT error_code FROM generations WHERE id = $1", second) == "held-back"
    assert await world.credits_of(person) == (95, 5)
    await world.settle_all()


async def test_who_was_passed_over_is_let_in_later(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    """Somebody had the rows locked when the one ahead ended, and ended neither."""
    person, [_, second, third] = waiting
    await submit.submit_once(world.context)
    async with world.context.pool.acquire() as elsewhere, elsewhere.transaction():
        for held in (second, third):
            assert await generations.lock(elsewhere, held, user_id=person.user_id)
        await world.work_off_all("image")
    assert (await audit.audit_once(world.context))["held_back_has_somebody_ahead"] == 2
    assert await sweep.let_in_stranded(world.context) == 1, "as many as the plan allows"
    assert await submit.submit_once(world.context) == 1
    assert await world.state(second) == "submitted"
    await world.cancel_all()


@pytest.mark.parametrize(("limit", "let_in"), [(2, 1), (None, 2), (1, 0)])
async def test_a_limit_that_is_raised_lets_in_whom_it_allows(
    world: World, waiting: tuple[Person, list[UUID]], limit: int | None, let_in: int
) -> None:
    """Staff, or a better plan, gave them more: they need not wait until the first is done, which takes its time."""
    person, [first, *_] = waiting
    await submit.submit_once(world.context)
    await world.limit(person, limit, key="raised")
    assert await sweep.let_in_stranded(world.context) == let_in
    assert await submit.submit_once(world.context) == let_in
    assert await world.state(first) == "submitted"
    await world.cancel_all()


async def test_who_has_nothing_to_try_again_locks_nothing(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    """A retry of one that is held back is refused before it could keep it from being let in."""
    person, [_, second, _] = waiting
    async with world.context.pool.acquire() as elsewhere, elsewhere.transaction():
        assert await generations.lock(elsewhere, second, user_id=person.user_id)
        async with asyncio.timeout(20):
            reply = await person.http.post(f"/v1/generations/{second}/retry")
    assert reply.status_code == 409
    await world.cancel_all()


async def test_the_next_is_rung_for_when_one_ends(world: World, waiting: tuple[Person, list[UUID]]) -> None:
    """The worker need not find out by itself. (A bell that Redis does not hear in time is lost: there are two ends.)"""
    _, asked = waiting
    await world.context.queue.flushdb()
    for _ in asked[1:]:
        await submit.submit_once(world.context)
        world.work_off("image", pictures(1))
        await world.poll_now()
        await finish.finish_once(world.context)
    rung = {argument for job in await world.context.queue.queued_jobs() for argument in job.args}
    assert rung & {str(generation_id) for generation_id in asked[1:]}


async def test_one_that_nobody_will_let_in_is_found(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    await world.execute("UPDATE generations SET held_back = true WHERE id = $1", generation_id)
    assert (await audit.audit_once(world.context))["held_back_has_somebody_ahead"] == 1
    await world.execute("UPDATE generations SET held_back = false WHERE id = $1", generation_id)
