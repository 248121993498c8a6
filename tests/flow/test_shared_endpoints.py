"""Types that share an endpoint where one job runs at once: whoever comes for another type is next, too."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared import plans
from tests.flow.crowd import Crowd, begun_before, crowd, looked
from tests.flow.machines import Machines
from tests.flow.routed import ENTRY, open_with
from tests.flow.world import ENDPOINTS, World
from worker import poll, submit, sweep
from worker.settings import MOST_RECALLS

IN_LINE = "SELECT array_agg(id ORDER BY vstart, id) FROM generations WHERE type = 'image' AND state = 'reserved'"


@pytest.fixture
async def shared(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """All types go to one endpoint."""
    entries = [ENTRY.format(name=name, type=name, priority=0, endpoint_id="image") for name in ENDPOINTS]
    async with open_with(database_url, redis_url, tmp_path, entries) as world:
        yield world


async def test_who_comes_for_another_type_gets_the_place(shared: World) -> None:
    """Their lines are at different times. What loses its turn is the next of its own."""
    there = await crowd(shared, 10)
    await shared.execute("UPDATE queue_clock SET vtime = 10 ^ 15 WHERE type = 'video'")
    theirs = await shared.ask(await shared.person(), type="video")
    assert await looked(shared) == 1
    await poll.poll_once(shared.context)
    assert await shared.value(IN_LINE) == there.ids[1:]
    for _ in range(MOST_RECALLS):
        await there.come_round()
        assert await begun_before(there, theirs) == 0
        await there.ends()
        await shared.pass_time(timedelta(seconds=1))  # RunPod takes no more than ten cancels a second
        await there.machine.sampled()
        theirs = await shared.ask(await shared.person(), type="video")
    await shared.cancel_all()


async def test_several_newcomers_for_several_types_are_all_before_the_crowd(shared: World) -> None:
    there = await crowd(shared, 20)
    theirs = [await shared.ask(await shared.person(), type=kind) for kind in ("video", "text", "image") * 2]
    await there.come_round()
    begun: set[UUID] = set()
    for _ in theirs:
        await there.ends()
        await shared.pass_time(timedelta(seconds=1))
        await there.machine.sampled()
        (job,) = there.machine.running
        begun.add(await shared.value("SELECT id FROM generations WHERE remote_id = $1", job.id))
    assert begun == set(theirs)
    await shared.cancel_all()


async def test_who_comes_for_another_type_sends_no_single_one_back(shared: World) -> None:
    machine = Machines(shared)
    await machine.sampled()
    for kind in ("video", "image"):
        await shared.submitted(await shared.person(), type=kind)
    machine.take()
    await shared.ask(await shared.person(), type="text")
    assert await looked(shared) == 0
    await shared.cancel_all()


async def test_the_clock_of_each_type_moves_with_what_is_served(shared: World) -> None:
    """Jobs of two types take turns at one machine, each sent ahead behind one of the other type."""
    machine = Machines(shared)
    await machine.sampled()
    person = await shared.person(credits_granted=1000)
    for _ in range(4):
        await shared.submitted(person, type="image")
        machine.take()
        await shared.submitted(person, type="video")
        machine.end()
        await shared.poll_now()
        machine.take()
        await shared.submitted(person, type="image")
        machine.end()
        await shared.poll_now()
        machine.take()
        machine.end()
        await shared.poll_now()
        await shared.settle_all()
    behind = "SELECT count(*) FROM queue_clock c JOIN queue_ends e USING (type) WHERE e.vfinish - c.vtime > 2 * 10 ^ 7"
    assert await shared.value("SELECT vtime FROM queue_clock WHERE type = 'video'") > 0
    assert await shared.value(behind) == 0
    await shared.cancel_all()


async def test_a_crowd_that_had_a_job_before_the_one_in_hand_comes_after_whoever_comes(shared: World) -> None:
    """Single ones one after the other: whose is in hand is none of the crowd's."""
    there = await crowd(shared, 10)
    for number in range(MOST_RECALLS):
        theirs = await shared.ask(await shared.person(), type="video")
        await there.come_round()
        assert await begun_before(there, theirs) == 0, f"after {number}"
        await shared.settle_all()
        await shared.pass_time(timedelta(seconds=1))  # RunPod takes no more than ten cancels a second
        await there.machine.sampled()
    await shared.cancel_all()


async def test_crowds_of_two_types_share_the_machine_by_what_they_cost(shared: World) -> None:
    """A video costs twice as much as an image."""
    there = await crowd(shared, 12)
    other = await shared.person(credits_granted=1000)
    for _ in range(6):
        await shared.ask(other, type="video")
    begun: list[str] = []
    for _ in range(12):
        await there.come_round()
        await there.ends()
        await shared.settle_all()
        (job,) = there.machine.running
        begun.append(await shared.value("SELECT type::text FROM generations WHERE remote_id = $1", job.id))
    for end in range(3, 13, 3):
        assert begun[:end].count("video") in (end // 3, end // 3 + 1), begun
    assert await shared.value("SELECT count(*) FROM generation_attempts WHERE outcome = 'recalled'") == 1, "the first"
    await shared.cancel_all()


async def test_plans_weigh_between_types_as_they_do_within_one(shared: World) -> None:
    """An image costs five times as much as a text, and its person's plan has ten times the weight."""
    machine = Machines(shared)
    await machine.sampled()
    heavy, other = [await shared.person(credits_granted=1000) for _ in range(2)]
    why: dict[str, Any] = {"reason": "a test", "actor": "test"}
    async with shared.context.pool.acquire() as connection, connection.transaction():
        await plans.set_plan(connection, plan=heavy.user_id, key="plan", terms={"weight": 10}, **why)
        await plans.set_terms(connection, user_id=heavy.user_id, key="terms", terms={"plan": heavy.user_id}, **why)
    there = Crowd(machine, heavy, [])
    for _ in range(14):
        await shared.ask(heavy)
        await shared.ask(other, type="text")
    await there.come_round()
    machine.take()
    begun: list[str] = []
    for _ in range(15):
        await there.ends()
        await shared.settle_all()
        (job,) = machine.running
        begun.append(await shared.value("SELECT type::text FROM generations WHERE remote_id = $1", job.id))
    assert begun.count("image") in (9, 10, 11), f"twice as many: {begun}"
    await shared.cancel_all()


async def test_one_persons_crowds_of_two_types_are_one_crowd(shared: World) -> None:
    """The first of the other type stands at its line's clock, and before who comes to it."""
    there = await crowd(shared, 10)
    for _ in range(10):
        await shared.ask(there.person, type="video")
    for _ in range(2):
        theirs = await shared.ask(await shared.person(), type="video")
        await there.come_round()
        assert await begun_before(there, theirs) == 0
        await there.ends()
        await shared.pass_time(timedelta(seconds=1))
        await there.machine.sampled()
    await shared.cancel_all()


async def test_of_who_stand_alike_first_is_who_has_no_job_there(shared: World) -> None:
    """Each is as far ahead of the clock of their own line."""
    there = await crowd(shared, 4)
    ahead = await shared.value(
        "SELECT g.vstart - c.vtime FROM generations g JOIN queue_clock c USING (type) WHERE g.id = $1", there.ids[1]
    )
    assert ahead > 0
    theirs = await shared.ask(await shared.person(), type="video")
    await shared.execute("UPDATE generations SET vstart = vstart + $2 WHERE id = $1", theirs, ahead)
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    await shared.cancel_all()


@pytest.mark.parametrize(("others", "asked_back"), [(0, 0), (10**9, 1)])
async def test_nothing_is_recalled_for_a_line_that_had_more_elsewhere(
    shared: World, others: int, asked_back: int
) -> None:
    """It is nearer to its clock than what would come back; unless others had as much here, it would not be next."""
    there = await crowd(shared, 4)
    theirs = await shared.ask(await shared.person(), type="video")
    ahead = await shared.value(
        "SELECT g.vstart - c.vtime FROM generations g JOIN queue_clock c USING (type) WHERE g.id = $1", there.ids[1]
    )
    await shared.execute("UPDATE generations SET vstart = $2 WHERE id = $1", theirs, ahead - 1)
    await shared.execute("INSERT INTO queue_meetings VALUES ('image', 'video', -(10 ^ 9), $1)", others)
    assert await looked(shared) == asked_back
    await shared.cancel_all()


async def test_nothing_is_recalled_for_a_late_one_whose_person_had_a_place_there_while_it_waited(
    shared: World,
) -> None:
    """It stands where that place ends, and others of its lane may be before it."""
    machine = Machines(shared)
    await machine.sampled()
    person = await shared.person()
    _, second = [await shared.ask(person, type="video") for _ in range(2)]
    await shared.execute("UPDATE generations SET due_at = now() + interval '1 hour' WHERE id = $1", second)
    await submit.submit_once(shared.context)
    machine.take()
    machine.end()
    await shared.poll_now()
    await shared.settle_all()
    await crowd(shared, 4)
    await shared.execute("UPDATE generations SET due_at = now(), vstart = 0 WHERE id = $1", second)
    assert await looked(shared) == 0
    whose = "UPDATE generations SET user_id = $2 WHERE id = $1"
    await shared.execute(whose, second, (await shared.person()).user_id)
    assert await looked(shared) == 1, "who had none there"
    await shared.execute(whose, second, person.user_id)
    await shared.cancel_all()


async def test_a_person_who_came_before_is_not_sent_back_for_who_comes_next(shared: World) -> None:
    """They had a job the day before, as others have not; since then nobody came."""
    machine = Machines(shared)
    await machine.sampled()
    regular = await shared.person()
    await shared.submitted(regular)
    machine.take()
    machine.end()
    await shared.poll_now()
    await shared.settle_all()
    await sweep.rest_lines(shared.context)
    await shared.submitted(await shared.person(), type="text")
    machine.take()
    await shared.submitted(regular)
    await shared.ask(await shared.person(), type="video")
    assert await looked(shared) == 0
    await shared.cancel_all()


async def test_where_nobody_is_on_their_way_all_begin_anew(shared: World) -> None:
    """Who comes then stands behind for nothing that images had elsewhere."""
    machine = Machines(shared)
    await machine.sampled()
    await shared.submitted(await shared.person())
    machine.take()
    machine.end()
    await shared.poll_now()
    await shared.settle_all()
    assert await shared.value("SELECT count(*) FROM queue_meetings WHERE type = 'image'") == 1
    await shared.submitted(await shared.person(), type="video")
    await sweep.rest_lines(shared.context)
    assert await shared.value("SELECT array_agg(type::text) FROM queue_meetings") == ["video"]
    await shared.cancel_all()


@pytest.mark.parametrize("_time", range(6))
async def test_with_one_slot_whoever_stands_first_has_it_whatever_their_type(shared: World, _time: int) -> None:
    """All others are used by calls that RunPod has not answered. By chance it would go right half of the times."""
    await crowd(shared, 3)
    theirs = await shared.ask(await shared.person(), type="video")
    assert await looked(shared) == 1
    await poll.poll_once(shared.context)
    assert await submit.submit_once(shared.context, limit=1) == 1
    assert await shared.state(theirs) == "submitted"
    await shared.cancel_all()
