"""Somebody comes to a crowd: what follows the job in hand comes back for them. By default; nobody said a number."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from tests.flow.machines import Machines
from tests.flow.routed import another_worker, open_routed
from tests.flow.test_gaps import cut_after
from tests.flow.twice import says
from tests.flow.world import ADMIN, PUBLIC_URL, Person, World, pictures
from tests.local.runpod.jobs import Job, State
from worker import audit, poll, submit, sweep
from worker.settings import MOST_RECALLS

REMOTE_ID = "SELECT remote_id FROM generations WHERE id = $1"
ASKED_BACK = "SELECT count(*) FROM generations WHERE recalled_attempt = attempt AND state = 'submitted'"
LONGEST_CUT = 60
"""Turns of the event loop; more than a look at a job takes."""


@dataclass
class Crowd:
    """Somebody's many at one machine: the first is in hand, the second follows, the others are in line."""

    machine: Machines
    person: Person
    ids: list[UUID]

    @property
    def world(self) -> World:
        return self.machine.world

    async def come_round(self) -> None:
        """What the loops do, in their order, until nothing moves."""
        await self.machine.sent()
        await poll.poll_once(self.world.context)
        await self.machine.sent()

    async def ends(self) -> None:
        """The job in hand ends, we hear of it, and the machine takes what waits there."""
        self.machine.end()
        self.machine.take()
        await self.world.poll_now()
        await self.come_round()
        self.machine.take()

    async def asked_back(self) -> tuple[Person, UUID]:
        """Somebody has come, and the second one is to come back; nobody has told RunPod."""
        single = await self.world.person()
        theirs = await self.world.ask(single)
        assert await submit.submit_once(self.world.context) == 0
        assert await self.world.value(ASKED_BACK) == 1
        return single, theirs

    def job(self, number: int = 1) -> Job:
        """RunPod's of one of them."""
        return self.world.runpod.jobs("image")[number]


async def crowd(world: World, count: int = 5, **body: int) -> Crowd:
    machine = Machines(world)
    await machine.sampled()
    person = await world.person(credits_granted=1000)
    ids = [await world.ask(person, **body) for _ in range(count)]
    for _ in ids[:2]:
        await submit.submit_once(world.context, limit=1)
    machine.take()
    assert [await world.state(id_) for id_ in ids] == ["submitted"] * 2 + ["reserved"] * (count - 2)
    return Crowd(machine, person, ids)


async def is_next(there: Crowd, theirs: UUID) -> bool:
    """Once the job in hand has ended, whatever else was asked for before."""
    await there.ends()
    return [job.id for job in there.machine.running] == [await there.world.value(REMOTE_ID, theirs)]


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
    for turns in range(0, LONGEST_CUT, 3):
        there = await crowd(world, 2)
        single, theirs = await there.asked_back()
        await cut_after(asyncio.ensure_future(poll.poll_once(world.context)), turns)
        await world.pass_time(world.context.settings.lease)
        await there.machine.sampled()
        await there.come_round()
        assert await world.attempts(there.ids[1]) == ["recalled"], f"after {turns} turns"
        assert await is_next(there, theirs)
        await there.ends()
        there.machine.end()
        await world.poll_now()
        await world.settle_all()
        for id_ in (*there.ids, theirs):
            assert (await world.state(id_), await world.charged(id_)) == ("completed", 5), f"after {turns} turns"
        assert await world.credits_of(there.person) == (990, 0)
        assert await world.credits_of(single) == (95, 0)
        world.runpod.weather.clear()


async def test_a_cancel_whose_answer_is_lost_is_found_out(world: World) -> None:
    there = await crowd(world)
    _, theirs = await there.asked_back()
    world.runpod.weather.order("dropped_after_accepting", operation="cancel", count=1)
    await poll.poll_once(world.context)
    assert there.job().state is State.CANCELLED
    assert await world.state(there.ids[1]) == "submitted"
    await world.poll_now()
    assert await world.state(there.ids[1]) == "reserved"
    await there.come_round()
    assert await is_next(there, theirs)
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
    assert theirs is not None
    await world.execute("UPDATE generation_attempts SET orphan_due_at = now() WHERE orphaned_at IS NOT NULL")
    await sweep.cancel_orphans(world.context)
    assert [job.state for job in world.runpod.jobs("image")].count(State.IN_QUEUE) <= 1
    await world.cancel_all()


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
    assert await submit.submit_once(world.context) == 0
    assert await world.value(ASKED_BACK) == 0
    await machine.emptied()


async def test_it_is_not_called_back_for_ever(world: World) -> None:
    """Whoever comes and cancels, again and again, costs RunPod's allowance and the crowd's time no more than that."""
    there = await crowd(world, 2)
    for _ in range(MOST_RECALLS):
        single, theirs = await there.asked_back()
        await there.come_round()
        await single.http.post(f"/v1/generations/{theirs}/cancel")
        await world.poll_now()
        await there.come_round()
        assert await world.state(there.ids[1]) == "submitted", "it is sent again"
    await world.ask(await world.person())
    await there.come_round()
    assert await world.value(ASKED_BACK) == 0
    assert await world.attempts(there.ids[1]) == ["recalled"] * MOST_RECALLS + ["accepted"]
    assert not any((await audit.audit_once(world.context)).values())
    await world.cancel_all()


async def test_several_workers_ask_for_one(world: World) -> None:
    there = await crowd(world, 6)
    theirs = [await world.ask(await world.person()) for _ in range(3)]
    workers = [another_worker(world) for _ in range(3)]
    await asyncio.gather(*(submit.submit_once(each.context) for each in workers))
    assert await world.value(ASKED_BACK) == 1
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
    assert await machines.sent() == 0
    assert await world.value(ASKED_BACK) == 0
    for _ in range(2):  # both jobs in hand end
        machines.end()
        machines.take()
        await world.poll_now()
        await machines.sent()
        machines.take()
    assert await world.value(REMOTE_ID, theirs) in [job.id for job in machines.running]
    await machines.emptied()


async def test_when_machines_have_gone_what_is_too_much_comes_back_one_by_one(world: World) -> None:
    machines = Machines(world, count=8)
    await machines.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(12):
        await world.ask(person)
    assert await machines.sent() == 10
    machines.take()
    machines.lose(7)
    await machines.sampled()
    theirs = await world.ask(await world.person())
    there = Crowd(machines, person, [])
    for _ in range(9):
        assert await submit.submit_once(world.context) == 0
        assert await world.value(ASKED_BACK) == 1
        await poll.poll_once(world.context)
        await world.pass_time(timedelta(seconds=1))  # RunPod takes no more than ten cancels a second
        machines.hear()
    await machines.sent()
    assert (len(machines.running), machines.waiting) == (1, 1)
    assert await is_next(there, theirs)
    await world.cancel_all()


async def test_what_an_operator_said_is_what_goes_there(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Nothing comes back from an endpoint whose number was said."""
    terms = {"first": "max_concurrency = 2\n", "second": "max_concurrency = 1\n"}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        machine = Machines(world, "first")
        await machine.sampled()
        person = await world.person(credits_granted=1000)
        for _ in range(5):
            await world.ask(person)
        assert await machine.sent() == 2 + 1
        machine.take()
        await world.ask(await world.person())
        assert await machine.sent() == 0
        assert await world.value(ASKED_BACK) == 0
        await world.cancel_all()


async def test_a_text_that_comes_back_is_written_once(world: World) -> None:
    """Its stream had nothing, and the next attempt has its own."""
    machine = Machines(world, "text")
    await machine.sampled()
    person = await world.person()
    first, second = [await world.submitted(person, type="text") for _ in range(2)]
    machine.take()
    await world.ask(await world.person(), type="text")
    await submit.submit_once(world.context)
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
