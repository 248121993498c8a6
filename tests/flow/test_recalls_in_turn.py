"""Who comes after who came, several crowds, lanes and endpoints: a single job waits for the one in hand."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.crowd import REMOTE_ID, Crowd, begun_before, crowd, looked
from tests.flow.machines import Machines
from tests.flow.routed import open_routed
from tests.flow.world import World
from worker import poll, recall, submit, sweep
from worker.capacity import LEAST
from worker.settings import MOST_RECALLS

WHOSE = "SELECT user_id FROM generations WHERE id = $1"


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


async def test_of_two_who_stand_alike_none_is_sent_and_recalled_in_vain(world: World) -> None:
    """The other's second came first; but theirs runs, and one never had a job there."""
    machine = Machines(world)
    await machine.sampled()
    one, other = [await world.person(credits_granted=1000) for _ in range(2)]
    taken_back = await world.ask(one)
    await world.ask(other)
    theirs, ours = await world.ask(other), await world.ask(one)
    await one.http.post(f"/v1/generations/{taken_back}/cancel")
    there = Crowd(machine, other, [])
    for _ in range(3):
        await there.come_round()
    assert [await world.attempts(id_) for id_ in (theirs, ours)] == [[], ["accepted"]]
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


async def crowd_at_two(world: World) -> list[Machines]:
    """Somebody's eight at two endpoints: each has one in hand and one that follows, the others are in line."""
    machines = [Machines(world, name) for name in ("first", "second")]
    for machine in machines:
        await machine.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(8):
        await world.ask(person)
    assert await machines[0].sent() == 2 * LEAST
    for machine in machines:
        machine.take()
    return machines


async def test_where_one_endpoint_does_not_let_go_another_does(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}, priorities=(0, 0)) as world:
        machines = await crowd_at_two(world)
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


@pytest.mark.parametrize("named", ["newcomer", "crowd"])
async def test_who_comes_to_an_endpoint_that_fell_behind_gets_the_next_place(world: World, named: str) -> None:
    """The line went on at others; the crowd's that follows there stands behind the clock, too. One of them named it."""
    there = await crowd(world, 10)
    await world.execute("UPDATE queue_clock SET vtime = 10 ^ 15 WHERE type = 'image'")
    theirs = await world.ask(await world.person())
    who = there.person.user_id if named == "crowd" else await world.value(WHOSE, theirs)
    await world.execute("UPDATE generations SET wanted_endpoint = 'image' WHERE user_id = $1", who)
    assert await looked(world) == 1
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    await world.cancel_all()


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


async def test_what_is_named_elsewhere_is_in_nobodys_way(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Both endpoints are full; whoever comes names the second."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}, priorities=(0, 0)) as world:
        machines = await crowd_at_two(world)
        theirs = await world.ask(await world.person())
        await world.execute("UPDATE generations SET wanted_endpoint = 'second' WHERE id = $1", theirs)
        await world.execute(
            "UPDATE generations SET submitted_at = submitted_at - interval '1 second' WHERE endpoint_id = 'second'"
        )
        await machines[1].sampled()
        assert await looked(world) == 1
        assert await world.value("SELECT endpoint_id FROM generations WHERE recall_asked_at IS NOT NULL") == "second"
        await world.cancel_all()


async def test_one_who_was_turned_away_sends_none_of_their_own_back(world: World) -> None:
    """It stands before the one that follows, and is due again."""
    there = await crowd(world, 3)
    await world.execute("UPDATE generations SET vstart = 0 WHERE id = $1", there.ids[2])
    assert await looked(world) == 0
    await world.cancel_all()


async def test_one_who_was_turned_away_keeps_nobody_else_behind_the_crowd(world: World) -> None:
    """The crowd's third stands before whoever comes; they stand before the second, which follows the job in hand."""
    there = await crowd(world, 6)
    await world.execute("UPDATE generations SET vstart = 0 WHERE id = $1", there.ids[2])
    theirs = await world.ask(await world.person())
    await there.come_round()
    assert await begun_before(there, theirs) <= 1
    await world.cancel_all()


async def test_crowds_at_two_endpoints_each_make_room_for_whoever_comes_there(world: World) -> None:
    """Two types, and an endpoint for each."""
    await crowd(world)
    videos = Machines(world, "video")
    await videos.sampled()
    person = await world.person(credits_granted=1000)
    for _ in range(4):
        await world.ask(person, type="video")
    for _ in range(2):
        await submit.submit_once(world.context)
    videos.take()
    for kind in ("image", "video"):
        await world.ask(await world.person(), type=kind)
        assert await looked(world) == 1
    await world.cancel_all()


async def test_runpod_has_first_what_stands_first(world: World) -> None:
    """Two that are sent side by side may arrive in the other order: the second goes when the first is there."""
    machine = Machines(world)
    await machine.sampled()
    person = await world.person()
    first, second = [await world.ask(person) for _ in range(2)]
    for there in ([first], [first, second]):
        assert await submit.submit_once(world.context) == 1
        assert [job.id for job in world.runpod.jobs("image")] == [await world.value(REMOTE_ID, id_) for id_ in there]
    await world.cancel_all()
