"""Somebody comes to a crowd: what follows the job in hand comes back for them. By default; nobody said a number."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.crowd import ASKED_BACK, REMOTE_ID, crowd, is_next, looked
from tests.flow.machines import Machines
from tests.flow.routed import another_worker, open_routed
from tests.flow.twice import says
from tests.flow.world import ADMIN, PUBLIC_URL, World
from worker import audit, poll, recall, submit
from worker.settings import MOST_RECALLS

CLOCK = "SELECT vtime FROM queue_clock WHERE type = 'image'"


async def test_a_single_job_waits_for_the_job_in_hand_and_no_more(world: World) -> None:
    """Line 7 of fairness, by default: at one machine, of a hundred; and whatever they do meanwhile."""
    there = await crowd(world, 100)
    for turn in range(4):
        for _ in range(turn):
            await there.ends()
        assert (len(there.machine.running), there.machine.waiting) == (1, 1), "no machine waits for us"
        theirs = await world.ask(await world.person())
        await there.come_round()
        assert (len(there.machine.running), there.machine.waiting) == (1, 1)
        assert await is_next(there, theirs)
    await world.cancel_all()


async def test_what_comes_back_is_the_next_of_its_person_and_charged_once(world: World) -> None:
    there = await crowd(world)
    _, theirs = await there.asked_back()
    await there.come_round()
    second = there.ids[1]
    assert await world.path(second) == ["reserved", "submitting", "submitted", "reserved"]
    assert (await world.reasons(second))[-1] == "recalled"
    assert await world.credits_of(there.person) == (1000 - 25, 25), "still promised"
    assert await is_next(there, theirs)
    await there.ends()
    assert [job.id for job in there.machine.running] == [await world.value(REMOTE_ID, second)], "before the third"
    there.machine.end()
    await world.poll_now()
    await world.settle_all()
    assert (await world.state(second), await world.charged(second)) == ("completed", 5)
    assert await world.attempts(second) == ["recalled", "accepted"]
    await world.cancel_all()


async def test_ops_see_that_it_was_sent_twice(world: World) -> None:
    there = await crowd(world, 2)
    admin = await world.person(user_id=ADMIN)
    await there.asked_back()
    await there.come_round()
    token, _ = world.issuer.token(ADMIN, authorized_party=PUBLIC_URL, role="admin")
    signed_in = {"authorization": f"Bearer {token}"}
    sent = (await admin.http.get(f"/ops/generations/{there.ids[1]}", headers=signed_in)).json()
    (attempt,) = sent["attempts"]
    assert (attempt["outcome"], sent["submissions"]) == ("recalled", 1), sent
    assert attempt["orphan_cancelled_at"] is not None
    await world.cancel_all()


async def test_whoever_has_something_there_waits_their_turn(world: World) -> None:
    """The crowd itself, and a single one whose job is there already."""
    there = await crowd(world)
    single, theirs = await there.asked_back()
    await there.come_round()
    more = await world.ask(single)
    await there.come_round()
    assert await world.value(ASKED_BACK) == 0
    assert await is_next(there, theirs)
    assert (await world.state(more), await world.value(ASKED_BACK)) == ("reserved", 0), "after the crowd's second"
    await world.cancel_all()


async def test_nobody_is_sent_home_for_somebody_else_who_has_one_job(world: World) -> None:
    """What follows is not of whose job is in hand: each has one, and a third waits for both."""
    machine = Machines(world)
    await machine.sampled()
    for _ in range(2):
        await world.submitted(await world.person())
    machine.take()
    await world.ask(await world.person())
    assert await looked(world) == 0
    await machine.emptied()


@pytest.mark.parametrize("meanwhile", ["is asked about", "was heard of", "is cancelled", "runs"])
async def test_what_is_about_to_move_is_left_alone(world: World, meanwhile: str) -> None:
    """So is the job in hand before it."""
    there = await crowd(world, 2)
    if meanwhile == "is asked about":
        await world.execute("UPDATE generations SET lease_token = gen_random_uuid() WHERE id = $1", there.ids[1])
    elif meanwhile == "was heard of":
        await says(world, there.ids[1], 1, there.job().id)
    elif meanwhile == "is cancelled":
        await there.person.http.post(f"/v1/generations/{there.ids[1]}/cancel")
    else:
        there.machine.at_once = 2
        there.machine.take()
        await world.poll_now()
        assert await world.state(there.ids[1]) == "running"
    await world.ask(await world.person())
    assert await looked(world) == 0
    await world.execute("UPDATE generations SET lease_token = NULL")
    await world.cancel_all()


@pytest.mark.parametrize(
    "they",
    [
        "due_at = due_at + interval '1 minute'",
        "held_back = true",
        "cancel_requested_at = now()",
        "heard_attempt = 1",
        "deadline_at = now()",
    ],
)
async def test_nothing_is_recalled_for_whom_cannot_be_sent_now(world: World, they: str) -> None:
    """RunPod has just turned them away, a limit of their plan keeps them, or they are not to be sent at all."""
    await crowd(world, 3)
    theirs = await world.ask(await world.person())
    await world.execute(f"UPDATE generations SET {they} WHERE id = $1", theirs)  # noqa: S608
    assert await looked(world) == 0
    await world.execute("UPDATE generations SET held_back = false WHERE id = $1", theirs)
    await world.cancel_all()


async def test_it_is_not_called_back_for_ever(world: World) -> None:
    """Whoever comes and cancels, again and again, costs RunPod's allowance and the crowd's time no more than that."""
    there = await crowd(world, 2)
    for _ in range(MOST_RECALLS):
        single, theirs = await there.asked_back()
        await there.come_round()
        await single.http.post(f"/v1/generations/{theirs}/cancel")
        await world.pass_time(timedelta(seconds=1))  # RunPod takes no more than ten cancels a second
        there.machine.hear()
        await world.poll_now()
        await there.come_round()
        assert await world.state(there.ids[1]) == "submitted", "it is sent again"
    await world.ask(await world.person())
    await there.come_round()
    assert await world.value(ASKED_BACK) == 0
    assert await world.attempts(there.ids[1]) == ["recalled"] * MOST_RECALLS + ["accepted"]
    assert not any((await audit.audit_once(world.context)).values())
    await world.cancel_all()


async def test_the_audit_sees_a_recall_too_many(world: World) -> None:
    """As often as it may be, it is none of the attempts that nobody can tell of."""
    person = await world.person()
    generation_id = await world.submitted(person)
    recalled = (
        "INSERT INTO generation_attempts (generation_id, attempt, endpoint, endpoint_id, outcome) "
        "SELECT $1, n, 'image', 'image', 'recalled' FROM generate_series($2::integer, $2 + $3 - 1) n"
    )
    await world.execute(recalled, generation_id, 2, MOST_RECALLS)
    assert (await audit.audit_once(world.context))["submissions_are_bounded"] == 0
    await world.execute(recalled, generation_id, 2 + MOST_RECALLS, 1)
    assert (await audit.audit_once(world.context))["submissions_are_bounded"] == 1
    await world.execute("DELETE FROM generation_attempts WHERE outcome = 'recalled'")
    await world.cancel_all()


async def test_several_workers_ask_for_one(world: World) -> None:
    there = await crowd(world, 6)
    theirs = [await world.ask(await world.person()) for _ in range(3)]
    workers = [another_worker(world) for _ in range(3)]
    await asyncio.gather(*(submit.submit_once(each.context) for each in workers))
    assert sum(await asyncio.gather(*(recall.look(each.context) for each in workers))) == 1
    await asyncio.gather(*(poll.poll_once(each.context) for each in workers))
    await asyncio.gather(*(submit.submit_once(each.context) for each in workers))
    assert await is_next(there, theirs[0])
    await world.cancel_all()


async def test_where_several_run_at_once_what_waits_is_left_there(world: World) -> None:
    """It is gone through while the jobs in hand end."""
    machines = Machines(world, count=2)
    await machines.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(6):
        await world.ask(person)
    assert await machines.sent() == 3
    machines.take()
    theirs = await world.ask(await world.person())
    assert await looked(world) == 0
    for _ in range(2):  # both jobs in hand end
        machines.end()
        machines.take()
        await world.poll_now()
        await machines.sent()
        machines.take()
    assert await world.value(REMOTE_ID, theirs) in [job.id for job in machines.running]
    await machines.emptied()


async def test_what_is_sent_to_an_idle_machine_is_served(world: World) -> None:
    """The line's clock moves with it at once, and not when the next one is sent ahead."""
    machine = Machines(world)
    await machine.sampled()
    person = await world.person()
    for _ in range(2):
        generation_id = await world.submitted(person)
        assert await world.value(CLOCK) == await world.value(
            "SELECT greatest(vstart - 1, 0) FROM generations WHERE id = $1", generation_id
        )
        machine.take()
        machine.end()
        await world.poll_now()
        await world.settle_all()


async def test_what_was_sent_to_machines_that_have_gone_is_left_there(world: World) -> None:
    """More is there than may be: if one came back, nobody would have its place."""
    machines = Machines(world, count=8)
    await machines.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(12):
        await world.ask(person)
    assert await machines.sent() == 10
    machines.take()
    machines.lose(7)
    await machines.sampled()
    await world.ask(await world.person())
    assert await looked(world) == 0
    await world.cancel_all()


async def test_what_an_operator_said_is_what_goes_there(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Nothing comes back from an endpoint whose number was said."""
    terms = {"first": "max_concurrency = 2\n", "second": "max_concurrency = 1\n"}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        machine = Machines(world, "first")
        await machine.sampled()
        person = await world.person(credits_granted=1000)
        for _ in range(2):
            await world.ask(person)
        assert await machine.sent() == 2
        assert await world.value(CLOCK) == await world.value("SELECT max(vstart) - 1 FROM generations"), (
            "both are served"
        )
        for _ in range(3):
            await world.ask(person)
        assert await machine.sent() == 1
        machine.take()
        await world.ask(await world.person())
        assert await looked(world) == 0
        await world.cancel_all()


async def test_time_in_line_begins_anew(world: World) -> None:
    """What comes back has as long to be sent as what was asked for now."""
    there = await crowd(world, 2)
    await world.pass_time(timedelta(minutes=14))
    await there.machine.sampled()
    await there.asked_back()
    await poll.poll_once(world.context)
    left = await world.value("SELECT deadline_at - now() FROM generations WHERE id = $1", there.ids[1])
    assert timedelta(minutes=19) < left <= timedelta(minutes=20)
    await world.cancel_all()
