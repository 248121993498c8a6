"""Lanes that fell behind their line's clock: what they are served is time like any other."""

from collections import Counter

import pytest

from shared.generations import CREDIT_IN_LINE, Type
from tests.worker.line import Line, ids
from tests.worker.test_lines_that_meet import claimed, ended, lane_that_fell_behind, line, served

__all__ = ["line"]


async def test_in_a_lane_that_fell_behind_crowds_share_by_what_they_ask_for(line: Line) -> None:
    dear, cheap, others = [await line.person() for _ in range(3)]
    for _ in range(10):
        await line.submit(dear, kind=Type.IMAGE, wanted="image", cost=4)
    for _ in range(40):
        await line.submit(cheap, kind=Type.IMAGE, wanted="image")
        await line.submit(others, kind=Type.IMAGE)
    await served(line, 40, "own")
    turns = Counter(each.user_id for each in await served(line, 20))
    assert 3 <= turns[dear] <= 5


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_who_comes_again_does_not_wait_for_all_of_a_lane_that_fell_behind(line: Line, elsewhere: bool) -> None:
    """Time passes in their line with what is served of it, also there."""
    named, person = await lane_that_fell_behind(line), await line.person()
    assert [each.user_id for each in await served(line, 1)] == [named]
    await line.submit(person, kind=Type.IMAGE)
    assert [each.user_id for each in await served(line, 1, "own" if elsewhere else "shared")] == [person]
    single = await line.submit(person, kind=Type.IMAGE)
    assert single.vstart > await line.clock(Type.IMAGE) + 1
    assert single.id in ids(await served(line, 3))


@pytest.mark.parametrize(
    ("named", "crowd", "due"),
    [((1, 1), (1, 4), 8), ((1, 4), (1, 1), 32), ((1, 1), (4, 1), 32), ((4, 1), (1, 1), 8)],
    ids=["dear", "cheap", "heavy", "light"],
)
async def test_a_lane_that_fell_behind_leaves_those_who_go_anywhere_their_part(
    line: Line, named: tuple[int, int], crowd: tuple[int, int], due: int
) -> None:
    """By the weight of their plans and by cost; each person: weight, cost."""
    (weight, cost), (weight_of_crowd, cost_of_crowd) = named, crowd
    await lane_that_fell_behind(line, weight=weight, cost=cost)
    person = await line.person(weight=weight_of_crowd)
    for _ in range(60):
        await line.submit(person, kind=Type.IMAGE, cost=cost_of_crowd)
    turns = Counter(each.user_id for each in await served(line, 40))
    assert abs(turns[person] - due) <= 3


@pytest.mark.parametrize("comes_to", ["is served", "is turned away"])
async def test_what_is_late_makes_nobody_late_who_wants_another_endpoint(line: Line, comes_to: str) -> None:
    """A crowd waits in order for theirs; whoever comes to it later shares with it by cost."""
    dear, cheap = await line.person(), await line.person()
    await lane_that_fell_behind(line)
    for _ in range(10):
        await line.submit(dear, kind=Type.IMAGE, wanted="own", cost=4)
    await served(line, 1, "own")
    for _ in range(40):
        late = await claimed(line, "shared")
        await ended(line, late)
        if comes_to == "is turned away":
            await line.give_back(late[0])
    for _ in range(40):
        await line.submit(cheap, kind=Type.IMAGE)
    turns = Counter(each.user_id for each in await served(line, 30, "own"))
    assert 5 <= turns[dear] <= 7


async def test_what_is_late_takes_its_time_once(line: Line) -> None:
    """However often it is turned away; another one keeps its place in the lane."""
    late = [await line.submit(await line.person(), kind=Type.IMAGE, wanted="image", cost=3) for _ in range(2)]
    await line.connection.execute("UPDATE queue_clock SET vtime = vtime + 10 ^ 9 WHERE type = 'image'")
    clock = await line.clock(Type.IMAGE)
    there = "INSERT INTO queue_meetings VALUES ('shared', 'image', $1, 0), ('shared', 'text', 0, 0)"
    await line.connection.execute(there, clock)
    for _ in range(6):
        (sent,) = await claimed(line, "shared")
        assert sent.id == late[0].id
        await line.give_back(sent)
    assert await line.clock(Type.IMAGE) == clock + 3 * CREDIT_IN_LINE
    others = "SELECT others FROM queue_meetings WHERE type = 'text'"
    assert await line.connection.fetchval(others) == 3 * CREDIT_IN_LINE


async def test_who_stands_before_the_end_of_a_late_ones_place_is_before_their_next(line: Line) -> None:
    """Although all of the lane stands before them in time."""
    named = await lane_that_fell_behind(line, cost=4)
    assert [each.user_id for each in await served(line, 1)] == [named]
    single = await line.submit(await line.person(), kind=Type.IMAGE, wanted="image")
    ahead = "UPDATE generations SET vstart = $2 WHERE id = $1"
    await line.connection.execute(ahead, single.id, await line.clock(Type.IMAGE) + 2)
    await line.connection.execute(
        "UPDATE generation_attempts AS a SET vfinish = $2 FROM generations AS g "
        "WHERE a.generation_id = g.id AND g.user_id = $1",
        named,
        await line.clock(Type.IMAGE) + 4,
    )
    assert ids(await served(line, 1)) == [single.id]
