"""Who comes after who came, several crowds, types that share an endpoint: a single job waits for the one in hand."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.flow.crowd import REMOTE_ID, Crowd, crowd, is_next, looked
from tests.flow.machines import Machines
from tests.flow.routed import open_routed
from tests.flow.world import ENDPOINTS, World, open_world
from worker import poll, recall, submit, sweep
from worker.capacity import LEAST
from worker.settings import MOST_RECALLS

IN_LINE = "SELECT array_agg(id ORDER BY vstart, id) FROM generations WHERE type = 'image' AND state = 'reserved'"


async def begun_before(there: Crowd, theirs: UUID) -> int:
    """How many of others begin before that one, after the job in hand."""
    for count in range(20):
        if await is_next(there, theirs):
            return count
    pytest.fail("it never begins")


async def test_one_newcomer_after_the_other(world: World) -> None:
    """The crowd's next follows the first one's, which is in hand, when the second comes."""
    there = await crowd(world, 100)
    for number in range(MOST_RECALLS + 2):
        theirs = await world.ask(await world.person())
        await world.pass_time(timedelta(seconds=1))  # RunPod takes no more than ten cancels a second
        await there.machine.sampled()
        await there.come_round()
        assert await begun_before(there, theirs) == (number == MOST_RECALLS), "then it is the crowd's turn"
    await world.cancel_all()


async def test_several_newcomers_together_are_served_in_the_order_in_which_they_came(world: World) -> None:
    there = await crowd(world, 100)
    theirs = [await world.ask(await world.person()) for _ in range(4)]
    await there.come_round()
    for each in theirs:
        assert await begun_before(there, each) == 0
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE outcome = 'recalled'") == 1
    await world.cancel_all()


async def test_who_came_first_is_not_sent_back_for_who_came_next(world: World) -> None:
    """Nor if they have one more in line."""
    there = await crowd(world, 5)
    first = await world.person()
    theirs, more = await world.ask(first), await world.ask(first)
    await there.come_round()
    next_one = await world.ask(await world.person())
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    assert await begun_before(there, next_one) == 0
    assert await world.state(more) == "reserved"
    await world.cancel_all()


async def test_crowds_take_turns_and_send_nobody_back(world: World) -> None:
    """Each of three has waited as long as the others: their order is that of the line."""
    machine = Machines(world)
    await machine.sampled()
    people = [await world.person(credits_granted=1000) for _ in range(3)]
    for _ in range(3):
        for person in people:
            await world.ask(person)
    there = Crowd(machine, people[0], [])
    for _ in range(8):
        await there.come_round()
        machine.take()
        machine.end()
        await world.poll_now()
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE outcome = 'recalled'") == 0
    await world.cancel_all()


@pytest.mark.parametrize("ends", range(5))
async def test_between_two_crowds_a_single_one_waits_for_no_more_than_one_of_each(world: World, ends: int) -> None:
    """One has the job in hand, and it may have been the other's turn before they came."""
    machine = Machines(world)
    await machine.sampled()
    people = [await world.person(credits_granted=1000) for _ in range(2)]
    for _ in range(5):
        for person in people:
            await world.ask(person)
    there = Crowd(machine, people[0], [])
    await there.come_round()
    machine.take()
    for _ in range(ends):
        await there.ends()
    theirs = await world.ask(await world.person())
    await there.come_round()
    assert await begun_before(there, theirs) <= 1
    await world.cancel_all()


async def test_where_one_endpoint_does_not_let_go_another_does(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"first": "", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms, priorities=(0, 0)) as world:
        machines = [Machines(world, name) for name in terms]
        for machine in machines:
            await machine.sampled()
        person = await world.person(credits_granted=1000)
        for _ in range(8):
            await world.ask(person)
        assert await machines[0].sent() == 2 * LEAST
        for machine in machines:
            machine.take()
        await world.execute("""UPDATE generations SET vstart = 10 ^ 9 WHERE id IN (
            SELECT DISTINCT ON (endpoint_id) id FROM generations WHERE state = 'submitted'
            ORDER BY endpoint_id, submitted_at DESC, id DESC)""")  # whichever was sent ahead where
        theirs = await world.ask(await world.person())
        world.runpod.weather.order("server_error", operation="cancel", endpoint="first")
        assert [await looked(world), await looked(world)] == [1, 0], "one is enough, if it comes soon"
        for _ in range(30):
            if await submit.submit_once(world.context):
                break
            await recall.look(world.context)
            await poll.poll_once(world.context)
            await world.pass_time(timedelta(seconds=1))
            for machine in machines:
                await machine.sampled()
        assert await world.value("SELECT endpoint_id FROM generations WHERE id = $1", theirs) == "second"
        world.runpod.weather.clear()
        await world.cancel_all()


@pytest.fixture
async def shared(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """All types go to one endpoint."""
    file = tmp_path / "endpoints.toml"
    entry = '[[endpoint]]\nname = "{0}"\ntype = "{0}"\nendpoint_id = "image"\nworker = "passthrough"\n'
    file.write_text("".join(entry.format(name) for name in ENDPOINTS))
    unnamed: dict[str, Any] = {f"endpoint_{name}": None for name in ENDPOINTS}
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, endpoints_file=file, **unnamed
    ) as world:
        yield world


async def test_who_comes_for_another_type_gets_the_place_in_the_end(shared: World) -> None:
    """Their lines are at different times: chance decides between them. What loses its turn is the next of its own."""
    there = await crowd(shared)
    await shared.execute("UPDATE queue_clock SET vtime = 10 ^ 15 WHERE type = 'video'")
    theirs = await shared.ask(await shared.person(), type="video")
    assert await looked(shared) == 1
    await poll.poll_once(shared.context)
    assert await shared.value(IN_LINE) == there.ids[1:]
    for _ in range(20):
        await shared.pass_time(timedelta(seconds=1))
        await there.machine.sampled()
        await there.come_round()
        if await shared.value(REMOTE_ID, theirs) is not None:
            break
        await there.ends()
    else:
        pytest.fail("it was never sent")
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


async def test_what_somebody_used_while_nobody_wanted_it_is_not_held_against_them(world: World) -> None:
    """A batch of four the day before; since then nobody came, until a crowd does."""
    person = await world.person()
    await world.submitted(person, batch_size=4)
    await sweep.rest_lines(world.context)
    assert await world.value("SELECT vtime FROM queue_clock WHERE type = 'image'") == 0, "they are on their way"
    machine = Machines(world)
    machine.take()
    machine.end()
    await world.poll_now()
    await world.settle_all()
    await sweep.rest_lines(world.context)
    there = await crowd(world, 10)
    theirs = await world.ask(person)
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    await world.cancel_all()
