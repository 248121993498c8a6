"""Lanes that the clock has passed, where one job runs at once and one follows: who sends whom back."""

import pytest

from tests.flow.crowd import Crowd, begun_before, crowd, is_next, looked
from tests.flow.machines import Machines
from tests.flow.world import World


async def lane_behind(world: World, count: int) -> Crowd:
    """All want the endpoint by name, and the clock has passed them all."""
    there = await crowd(world, count)
    await world.execute("UPDATE generations SET wanted_endpoint = 'image'")
    await world.execute("UPDATE queue_clock SET vtime = 10 ^ 15 WHERE type = 'image'")
    return there


async def test_who_comes_to_a_lane_that_fell_behind_is_the_next(world: World) -> None:
    """They join it where it is: at the place of the crowd's next, which came before."""
    there = await lane_behind(world, 10)
    theirs = await world.ask(await world.person())
    await world.execute(
        "UPDATE generations SET wanted_endpoint = 'image', vstart = generation_line_start(type, 'image') WHERE id = $1",
        theirs,
    )
    await there.come_round()
    assert await begun_before(there, theirs) == 0
    await world.cancel_all()


@pytest.mark.parametrize("count", [2, 10])
async def test_who_comes_next_waits_for_none_of_a_crowd_that_has_no_job_in_hand(world: World, count: int) -> None:
    """A single one's is in hand, and one of the crowd's follows it. What follows then is not in the crowd's way."""
    there = await lane_behind(world, count)
    for _ in range(2):
        theirs = await world.ask(await world.person())
        await world.execute("UPDATE generations SET wanted_endpoint = 'image' WHERE id = $1", theirs)
        assert await looked(world) == 1
        await there.come_round()
        assert await looked(world) == 0
        assert await is_next(there, theirs)
    await world.cancel_all()


async def test_in_a_lane_that_fell_behind_nobody_is_sent_back_for_who_has_a_job_there(world: World) -> None:
    """The claim would send them again: whose next stands before them has the job in hand."""
    there = await lane_behind(world, 2)
    single = there.ids[1]
    await world.execute("UPDATE generations SET user_id = $2 WHERE id = $1", single, (await world.person()).user_id)
    await world.execute("UPDATE generations SET vstart = 10 ^ 9 WHERE id = $1", single)
    theirs = await world.ask(there.person)
    await world.execute("UPDATE generations SET wanted_endpoint = 'image', vstart = 1 WHERE id = $1", theirs)
    assert await looked(world) == 0
    await world.execute("UPDATE generations SET user_id = $2 WHERE id = $1", single, there.person.user_id)
    await world.cancel_all()


async def test_lanes_that_the_clock_has_passed_send_nobody_back_for_each_other(world: World) -> None:
    """Nobody has more than one: it would be chance whether they were sent again."""
    machine = Machines(world)
    await machine.sampled()
    first, second = [await world.submitted(await world.person()) for _ in range(2)]
    machine.take()
    await world.execute("UPDATE generations SET wanted_endpoint = 'image', vstart = 10 ^ 9 WHERE id = $1", second)
    await world.execute("UPDATE queue_clock SET vtime = 10 ^ 15 WHERE type = 'image'")
    theirs = await world.ask(await world.person())
    await world.execute("UPDATE generations SET vstart = 1 WHERE id = $1", theirs)
    assert await looked(world) == 0
    assert await world.state(first) == "submitted"
    await world.cancel_all()
