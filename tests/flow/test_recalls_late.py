"""A job came back, or was to: what is said of it afterwards, and what becomes of one that did not."""

from datetime import timedelta
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from shared.generations import Type
from tests.flow.crowd import ASKED_BACK, REMOTE_ID, Crowd, crowd, looked
from tests.flow.twice import ORPHANS, PURSUED, says
from tests.flow.world import World
from tests.local.runpod.jobs import Job, State
from worker import poll, recall, submit, sweep


async def sent_again(world: World) -> tuple[Crowd, UUID, Job]:
    """The second of a crowd came back, was sent again, and runs."""
    there = await crowd(world, 2)
    await there.asked_back()
    await there.come_round()
    await there.ends()
    await there.ends()
    await world.poll_now()
    assert await world.attempts(there.ids[1]) == ["recalled", "accepted"]
    (again,) = there.machine.running
    assert again.id == await world.value(REMOTE_ID, there.ids[1])
    return there, there.ids[1], again


async def test_a_false_word_of_the_recalled_does_not_cost_the_result_of_the_next(world: World) -> None:
    """RunPod says COMPLETED of the first, which is cancelled, while the second runs."""
    there, second, again = await sent_again(world)
    await says(world, second, 1, there.job().id)
    await world.poll_now()
    await world.settle_all()
    assert await world.value(PURSUED, second) == 2
    there.machine.end()
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert (await world.state(second), await world.charged(second)) == ("completed", 5)
    assert await world.attempts(second) == ["recalled", "accepted"], "nothing is made anew"
    assert again.ended


async def test_a_false_word_of_the_recalled_does_not_recall_the_next(world: World) -> None:
    """The second waits there when RunPod says COMPLETED of the first."""
    there = await crowd(world, 2)
    await there.asked_back()
    await there.come_round()
    await there.ends()
    assert await world.attempts(there.ids[1]) == ["recalled", "accepted"]
    await says(world, there.ids[1], 1, there.job().id)
    for _ in range(3):
        await world.poll_now()
        await world.settle_all()
    assert await world.attempts(there.ids[1]) == ["recalled", "accepted"]
    assert await world.value(PURSUED, there.ids[1]) == 2
    await world.cancel_all()


@pytest.mark.parametrize("end", ["completes", "is cancelled"])
async def test_a_recalled_one_that_was_turned_to_again_is_cancelled_when_the_next_ends(world: World, end: str) -> None:
    """It was gone, and may show up: nobody pays for it."""
    there, second, _ = await sent_again(world)
    turned_to = "SET orphaned_at = NULL, orphan_cancelled_at = NULL WHERE generation_id = $1 AND attempt = 1"
    await world.execute(f"UPDATE generation_attempts {turned_to}", second)
    if end == "completes":
        there.machine.end()
        await world.poll_now()
    else:
        await there.person.http.post(f"/v1/generations/{second}/cancel")
        await world.settle_all()
    assert await world.state(second) in ("finishing", "cancelled")
    assert 1 in await world.value(ORPHANS)
    await world.cancel_all()


async def test_false_words_that_do_not_end_keep_nothing_from_being_sent(world: World) -> None:
    """The address has leaked: the first is believed once."""
    there = await crowd(world, 2)
    await there.asked_back()
    await poll.poll_once(world.context)
    for _ in range(3):
        await says(world, there.ids[1], 1, there.job().id)
        await sweep.sweep_once(world.context)
        await world.poll_now()
    assert (await world.reasons(there.ids[1])).count("adopted") == 1
    await world.pass_time(timedelta(minutes=20))
    await sweep.sweep_once(world.context)
    assert await world.state(there.ids[1]) == "failed", "its time in the line is over"
    assert await world.credits_of(there.person) == (995, 5)
    await world.cancel_all()


async def test_what_is_taken_up_again_may_have_to_be_cancelled_again(world: World) -> None:
    """It was thought lost, and cancelled as an orphan; then RunPod says that it completed."""
    there = await crowd(world, 2)
    await there.asked_back()
    await poll.poll_once(world.context)
    orphaned = "SELECT num_nonnulls(orphaned_at, orphan_cancelled_at) FROM generation_attempts WHERE generation_id = $1"
    await world.execute(
        "UPDATE generation_attempts SET orphaned_at = now(), orphan_cancelled_at = now() WHERE generation_id = $1",
        there.ids[1],
    )
    await says(world, there.ids[1], 1, there.job().id)
    await sweep.sweep_once(world.context)
    assert "adopted" in await world.reasons(there.ids[1])
    assert await world.value(orphaned, there.ids[1]) == 0
    await world.cancel_all()


async def test_what_runpod_drops_after_the_cancel_is_in_line_again(world: World) -> None:
    """The cancel's answer was lost, and so is the job: it may show up for a while."""
    there = await crowd(world, 2)
    await there.asked_back()
    world.runpod.weather.order("dropped_after_accepting", operation="cancel", count=1)
    await poll.poll_once(world.context)
    world.runpod.forget(there.job().id)
    await world.poll_now()
    assert await world.state(there.ids[1]) == "submitted"
    await world.pass_time(world.context.settings.lost_grace)
    await there.machine.sampled()
    await world.poll_now()
    assert await world.state(there.ids[1]) == "reserved"
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE orphan_cancelled_at IS NOT NULL") == 0
    await world.cancel_all()


async def test_a_job_that_is_lost_before_the_cancel_is_lost(world: World) -> None:
    there = await crowd(world, 2)
    await there.asked_back()
    world.runpod.forget(there.job().id)
    await world.pass_time(world.context.settings.lost_grace)
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "failed"
    await world.cancel_all()


@pytest.mark.parametrize("then", ["its machine is lost", "somebody cancels it at RunPod"])
async def test_what_has_run_is_not_recalled_any_more(world: World, then: str) -> None:
    """It had begun when the poll came; what happens to it later is no recall."""
    there = await crowd(world, 2)
    await there.asked_back()
    there.machine.end()
    there.machine.take()
    await poll.poll_once(world.context)
    assert await world.state(there.ids[1]) == "running"
    if then == "its machine is lost":
        there.machine.lose(1)
        assert there.job().state is State.IN_QUEUE
    else:
        world.runpod.cancel(there.job())
    await world.poll_now()
    await world.settle_all()
    assert "recalled" not in await world.reasons(there.ids[1])
    await world.cancel_all()


async def test_whom_nobody_waits_for_stays_where_it_is(world: World) -> None:
    """It was asked back long ago, and nothing came of it."""
    there = await crowd(world, 2)
    await there.asked_back()
    await world.execute(
        "UPDATE generations SET recall_asked_at = recall_asked_at - $1::interval", 2 * recall.ON_ITS_WAY
    )
    await world.poll_now()
    assert await world.state(there.ids[1]) == "submitted"
    await world.cancel_all()


async def test_a_queue_deadline_ends_what_runpod_does_not_let_go(world: World) -> None:
    there = await crowd(world, 2)
    await there.asked_back()
    world.runpod.weather.order("server_error", operation="cancel", count=1)
    await world.poll_now()
    await world.pass_time(world.context.endpoints.of_type(Type.IMAGE)[0].queue_deadline)
    await world.poll_now()
    assert await world.state(there.ids[1]) == "failed"
    await world.cancel_all()


async def test_nothing_is_recalled_while_a_worker_lives_that_would_not_understand(world: World) -> None:
    """One of the version before calls the end what it finds cancelled."""
    there = await crowd(world, 2)
    await world.execute("INSERT INTO workers (worker_id, share) VALUES (gen_random_uuid(), 0.5)")
    await world.ask(await world.person())
    assert await looked(world) == 0
    await world.execute("UPDATE workers SET seen_at = seen_at - $1::interval", world.context.settings.lease)
    assert await looked(world) == 1
    await world.execute("DELETE FROM workers")
    await world.context.shares.beat(world.context.pool, lease=world.context.settings.lease)
    assert await world.value("SELECT recalls FROM workers")
    await world.context.shares.leave(world.context.pool)
    assert there.ids
    await world.cancel_all()


async def test_what_is_sent_again_is_counted_once(world: World) -> None:
    """How long it waited, and what it is expected to cost: it ran once."""
    before = REGISTRY.get_sample_value("twin_generation_wait_seconds_count") or 0
    await sent_again(world)
    assert REGISTRY.get_sample_value("twin_generation_wait_seconds_count") == before + 3
    await world.cancel_all()


@pytest.mark.parametrize("then", ["it is dropped", "somebody cancels it at RunPod"])
async def test_what_began_although_it_was_to_be_cancelled_is_not_recalled_any_more(world: World, then: str) -> None:
    """RunPod did not take the cancel, and that it was called for is on record."""
    there = await crowd(world, 2)
    await there.asked_back()
    world.runpod.weather.order("server_error", operation="cancel", count=1)
    await world.poll_now()
    there.machine.end()
    there.machine.take()
    await world.poll_now()
    assert await world.state(there.ids[1]) == "running"
    if then == "it is dropped":
        world.runpod.forget(there.job().id)
        await world.pass_time(world.context.settings.lost_grace)
    else:
        world.runpod.cancel(there.job())
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "failed"
    assert "recalled" not in await world.reasons(there.ids[1])
    await world.cancel_all()


async def test_another_round_is_not_called_back_for_whoever_came_before(world: World) -> None:
    """It ran and failed although it was asked back, and its person tries again at once."""
    there = await crowd(world, 2)
    await there.asked_back()
    there.machine.at_once = 2
    there.machine.take()
    world.runpod.fail(there.job().id, "CUDA out of memory")
    await world.poll_now()
    await world.settle_all()
    assert await world.state(there.ids[1]) == "failed"
    there.machine.at_once = 1
    assert (await there.person.http.post(f"/v1/generations/{there.ids[1]}/retry")).status_code == 202
    await there.machine.sampled()
    await there.ends()
    await world.poll_now()
    assert (await world.state(there.ids[1]), await world.value(ASKED_BACK)) == ("submitted", 0)
    await world.cancel_all()


async def test_a_result_that_is_lost_is_no_recall(world: World) -> None:
    """It completed before the cancel was there, by its webhook, and RunPod has dropped it."""
    there = await crowd(world, 2)
    await there.asked_back()
    world.runpod.weather.order("server_error", operation="cancel", count=1)
    await world.poll_now()
    await says(world, there.ids[1], 1, there.job().id)
    world.runpod.forget(there.job().id)
    await world.pass_time(world.context.settings.lost_grace)
    await world.poll_now()
    await world.settle_all()
    assert await world.value("SELECT error_code FROM generations WHERE id = $1", there.ids[1]) == "result-lost"
    await world.cancel_all()


async def test_whoever_lost_the_lease_disbelieves_nothing(world: World) -> None:
    there = await crowd(world, 2)
    await there.asked_back()
    await poll.poll_once(world.context)
    await says(world, there.ids[1], 1, there.job().id)
    await sweep.sweep_once(world.context)
    (stale,) = [each for each in await poll.claim(world.context, 10) if each.id == there.ids[1]]
    await world.execute("UPDATE generations SET lease_token = gen_random_uuid() WHERE id = $1", stale.id)
    reading = await world.context.runpod.status("image", there.job().id)
    assert await recall.call_back(world.context, stale, reading) is None
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE lost_at IS NOT NULL") == 0
    await world.cancel_all()


@pytest.mark.parametrize("closed", ["by RunPod's word", "by its breaker"])
async def test_nothing_is_recalled_where_nothing_can_be_sent(world: World, closed: str) -> None:
    """Else the machine would stand idle."""
    await crowd(world, 2)
    await world.ask(await world.person())
    assert await submit.submit_once(world.context) == 0
    if closed == "by RunPod's word":
        await world.execute("UPDATE endpoint_allowances SET closed_until = now() + interval '1 minute'")
    else:
        await world.execute(
            "UPDATE endpoint_states SET breaker = 'open', opened_at = now(), retry_at = now() + interval '1 minute'"
        )
    assert await recall.look(world.context) == 0
    await world.execute("UPDATE endpoint_allowances SET closed_until = NULL")
    await world.execute("UPDATE endpoint_states SET breaker = 'closed', opened_at = NULL, retry_at = NULL")
    assert await looked(world) == 1
    await world.cancel_all()
