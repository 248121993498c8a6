"""A job is to come back, and something happens on the way: it begins, it ends, a worker dies, RunPod errs."""

import asyncio
from datetime import timedelta

import pytest

from tests.flow.crowd import REMOTE_ID, crowd, is_next, looked
from tests.flow.machines import Machines
from tests.flow.twice import says
from tests.flow.world import World, pictures
from tests.local.runpod.jobs import State
from tests.turns import at_every_turn, cut_before
from worker import poll, recall, sweep


async def test_what_has_begun_is_not_called_back(world: World) -> None:
    there = await crowd(world)
    _, theirs = await there.asked_back()
    there.machine.end()
    there.machine.take()
    await poll.poll_once(world.context)
    assert await world.state(there.ids[1]) == "running"
    assert world.runpod.calls_to("cancel", "image") == []
    await world.poll_now()
    await there.come_round()
    assert await is_next(there, theirs)
    await world.cancel_all()


async def test_what_ends_before_the_cancel_is_there_is_delivered(world: World) -> None:
    """RunPod answers the cancel with COMPLETED: /status has the result."""
    there = await crowd(world)
    await there.asked_back()
    world.runpod.weather.order("latency", operation="cancel", count=1, seconds=0.2)
    polling = asyncio.create_task(poll.poll_once(world.context))
    async with asyncio.timeout(10):
        while not world.runpod.calls_to("status", "image"):
            await asyncio.sleep(0.01)
        there.machine.end()
        there.machine.take()
        there.machine.end()
        await polling
    assert await world.state(there.ids[1]) in ("submitted", "finishing")
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "completed"
    assert await world.attempts(there.ids[1]) == ["accepted"]
    await world.cancel_all()


async def test_whoever_dies_on_the_way_leaves_it_to_the_next(world: World) -> None:
    """At any await: it waits there, or it is cancelled and nobody wrote that down, or it is back."""

    async def cut(turn: int) -> bool:
        there = await crowd(world, 2)
        single, theirs = await there.asked_back()
        cut_off = await cut_before(turn, poll.poll_once(world.context))
        await world.pass_time(world.context.settings.lease)
        await there.machine.sampled()
        for _ in range(2):
            await there.come_round()
        assert await world.attempts(there.ids[1]) == ["recalled"], f"cut off before turn {turn}"
        assert await is_next(there, theirs)
        await there.ends()
        there.machine.end()
        await world.poll_now()
        await world.settle_all()
        for id_ in (*there.ids, theirs):
            assert (await world.state(id_), await world.charged(id_)) == ("completed", 5), f"cut off before turn {turn}"
        assert await world.credits_of(there.person) == (990, 0)
        assert await world.credits_of(single) == (95, 0)
        world.runpod.weather.clear()
        return cut_off

    await at_every_turn(cut)


@pytest.mark.parametrize("told", [False, True])
async def test_a_cancel_whose_answer_is_lost_is_found_out(world: World, told: bool) -> None:
    """By asking, or because RunPod's webhook says so first."""
    there = await crowd(world)
    _, theirs = await there.asked_back()
    world.runpod.weather.order("dropped_after_accepting", operation="cancel", count=1)
    await poll.poll_once(world.context)
    assert there.job().state is State.CANCELLED
    assert await world.state(there.ids[1]) == "submitted"
    if told:
        await says(world, there.ids[1], 1, there.job().id, status="CANCELLED")
    await world.poll_now()
    assert await world.state(there.ids[1]) == "reserved"
    await there.come_round()
    assert await is_next(there, theirs)
    await there.come_round()
    assert await world.attempts(there.ids[1]) == ["recalled", "accepted"]
    await world.cancel_all()


async def test_a_cancel_that_runpod_does_not_take_is_asked_for_again(world: World) -> None:
    there = await crowd(world)
    await there.asked_back()
    world.runpod.weather.order("server_error", operation="cancel", count=2)
    for _ in range(2):
        await world.poll_now()
        assert await world.state(there.ids[1]) == "submitted"
        assert await there.machine.sent() == 0
    await world.poll_now()
    assert await world.state(there.ids[1]) == "reserved"
    await world.cancel_all()


async def test_what_does_not_come_back_is_asked_back_again_after_a_while(world: World) -> None:
    """And no other at its endpoint meanwhile."""
    there = await crowd(world, 4)
    await there.asked_back()
    await world.pass_time(recall.PATIENCE + timedelta(seconds=1))
    await there.machine.sampled()
    assert await looked(world) == 0
    await world.pass_time(recall.ON_ITS_WAY)
    await there.machine.sampled()
    assert await looked(world) == 1
    await world.cancel_all()


@pytest.mark.parametrize("late", [False, True])
async def test_the_webhook_of_its_cancel_changes_nothing(world: World, late: bool) -> None:
    """RunPod tells us what we asked for: it is in line, or was sent again."""
    there = await crowd(world)
    _, theirs = await there.asked_back()
    await poll.poll_once(world.context)
    if late:
        await there.come_round()
        assert await is_next(there, theirs)
        await there.come_round()
    await says(world, there.ids[1], 1, there.job().id, status="CANCELLED")
    before = await world.path(there.ids[1])
    await sweep.sweep_once(world.context)
    await world.poll_now()
    assert await world.path(there.ids[1]) == before
    assert await world.state(there.ids[1]) == ("submitted" if late else "reserved")
    await world.cancel_all()


@pytest.mark.parametrize("sent_again", [False, True])
async def test_it_completed_all_the_same(world: World, sent_again: bool) -> None:
    """RunPod contradicts itself: it said CANCELLED, and its webhook says COMPLETED. What was made is not made twice."""
    there = await crowd(world, 2)
    _, theirs = await there.asked_back()
    await poll.poll_once(world.context)
    if sent_again:
        await there.come_round()
        await there.ends()
        assert await world.attempts(there.ids[1]) == ["recalled", "accepted"]
    first = there.job()
    first.state, first.output = State.COMPLETED, pictures(1)
    await says(world, there.ids[1], 1, first.id)
    await sweep.sweep_once(world.context)
    await world.poll_now()
    await world.settle_all()
    assert (await world.state(there.ids[1]), await world.charged(there.ids[1])) == ("completed", 5)
    assert await world.value("SELECT attempt FROM generations WHERE id = $1", there.ids[1]) == 1
    assert await world.attempts(there.ids[1]) == ["recalled"] + ["accepted"] * sent_again
    assert theirs is not None
    await world.execute("UPDATE generation_attempts SET orphan_due_at = now() WHERE orphaned_at IS NOT NULL")
    await sweep.cancel_orphans(world.context)
    assert [job.state for job in world.runpod.jobs("image")].count(State.IN_QUEUE) <= 1
    await world.cancel_all()


async def test_what_was_recalled_is_none_that_may_have_a_result(world: World) -> None:
    """The attempt after it fails, and there is nothing to turn to."""
    there = await crowd(world, 2)
    _, theirs = await there.asked_back()
    await there.come_round()
    await there.ends()
    await there.ends()
    assert [job.id for job in there.machine.running] == [await world.value(REMOTE_ID, there.ids[1])]
    world.runpod.fail(there.machine.running[0].id, "out of memory")
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "failed"
    assert await world.state(theirs) == "completed"
    assert await world.credits_of(there.person) == (995, 0)


async def test_a_word_of_completed_that_is_not_true_puts_it_back_in_line(world: World) -> None:
    there = await crowd(world, 2)
    await there.asked_back()
    await poll.poll_once(world.context)
    await says(world, there.ids[1], 1, there.job().id)
    await sweep.sweep_once(world.context)
    assert await world.state(there.ids[1]) == "submitted"
    await world.poll_now()
    assert await world.state(there.ids[1]) == "reserved"
    assert await world.attempts(there.ids[1]) == ["recalled"]
    await world.cancel_all()


@pytest.mark.parametrize("moment", ["asked back", "cancelled there", "in line"])
async def test_its_person_cancels_meanwhile(world: World, moment: str) -> None:
    there = await crowd(world, 2)
    await there.asked_back()
    if moment == "cancelled there":
        world.runpod.cancel(there.job())
    if moment == "in line":
        await poll.poll_once(world.context)
    reply = await there.person.http.post(f"/v1/generations/{there.ids[1]}/cancel")
    assert reply.status_code == 202, reply.text
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "cancelled"
    assert await world.credits_of(there.person) == (995, 5)
    await world.cancel_all()


async def test_a_text_that_comes_back_is_written_once(world: World) -> None:
    """Its stream had nothing, and the next attempt has its own."""
    machine = Machines(world, "text")
    await machine.sampled()
    person = await world.person()
    first, second = [await world.submitted(person, type="text") for _ in range(2)]
    machine.take()
    await world.ask(await world.person(), type="text")
    assert await looked(world) == 1
    await poll.poll_once(world.context)
    assert await world.state(second) == "reserved"
    assert await world.value("SELECT trouble FROM generation_streams WHERE generation_id = $1", second) == "superseded"
    for _ in range(3):  # the first, who came, the second
        await machine.sent()
        machine.take()
        world.runpod.complete(machine.running[0].id, "hello")
        await world.poll_now()
        await world.settle_all()
    assert [await world.state(id_) for id_ in (first, second)] == ["completed"] * 2
    await world.cancel_all()
