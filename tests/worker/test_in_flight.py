"""A plan's limit in flight: exact whoever races, and no claim reads what is held back."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from shared import plans, sql
from shared.database import Connection, Pool
from shared.generations import CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, Generation, Type
from tests.worker.line import FILL, Line, ids
from worker import line as line_
from worker import line_time

CROWD = 10_000
BATCH = 50
ON_THEIR_WAY = """
SELECT count(*) FROM generations
WHERE user_id = $1 AND state IN ('submitting', 'submitted', 'running', 'finishing')
"""


@pytest.fixture
async def line(pool: Pool) -> AsyncIterator[Line]:
    """Idle lines."""
    async with pool.acquire() as connection:
        opened = Line(connection)
        await opened.empty()
        yield opened


async def set_limit(connection: Connection, user_id: str, max_in_flight: int | None) -> None:
    terms = {"max_in_flight": max_in_flight}
    plan = user_id.removeprefix("user_")
    await plans.set_plan(connection, plan=plan, key=uuid4().hex, terms=terms, reason=None, actor="test")


async def test_who_is_at_the_limit_is_passed_over(line: Line) -> None:
    capped, other = await line.person(max_in_flight=2), await line.person()
    mine = [await line.submit(capped) for _ in range(5)]
    assert [generation.held_back for generation in mine] == [False, False, True, True, True]
    behind = await line.submit(other)
    claimed = await line.claim(10)
    assert sorted(ids(claimed)) == sorted([mine[0].id, mine[1].id, behind.id])
    assert await line.claim(10) == []
    let_in = await line.finish(claimed[0])
    assert ids(let_in) == [mine[2].id], "the oldest that was held back is next"
    assert ids(await line.claim(10)) == [mine[2].id]


async def test_the_limit_holds_whoever_races(line: Line, pool: Pool) -> None:
    """Submits, claims of two workers and ends, all at once: never more than three, and all come to their end."""
    user_id = await line.person(max_in_flight=3)
    most, ended, jobs = 0, 0, 60

    async def submit() -> None:
        async with pool.acquire() as connection:
            for _ in range(jobs // 3):
                await Line(connection).submit(user_id)

    async def work() -> None:
        nonlocal most, ended
        async with pool.acquire() as connection:
            mine: list[Generation] = []
            while ended < jobs:
                mine += await Line(connection).claim(5)
                most = max(most, await connection.fetchval(ON_THEIR_WAY, user_id))
                if mine:
                    await Line(connection).finish(mine.pop())
                    ended += 1

    async with asyncio.timeout(100), asyncio.TaskGroup() as everybody:
        for _ in range(3):
            everybody.create_task(submit())
        for _ in range(2):
            everybody.create_task(work())
    assert most == 3


async def test_a_limit_that_is_raised_is_noticed_when_one_ends(line: Line) -> None:
    user_id = await line.person(max_in_flight=1)
    for _ in range(6):
        await line.submit(user_id)
    [first] = await line.claim(10)
    await set_limit(line.connection, user_id, 3)
    assert len(await line.finish(first)) == 3
    claimed = await line.claim(10)
    await set_limit(line.connection, user_id, None)
    assert len(await line.finish(claimed[0])) == 2, "all that were left"


async def test_a_limit_that_is_lowered_stops_nothing_and_lets_in_nobody(line: Line) -> None:
    user_id = await line.person(max_in_flight=3)
    for _ in range(5):
        await line.submit(user_id)
    claimed = await line.claim(10)
    await set_limit(line.connection, user_id, 1)
    assert [len(await line.finish(generation)) for generation in claimed] == [0, 0, 1]


async def test_an_end_does_not_wait_for_one_that_is_ending_too(line: Line, pool: Pool) -> None:
    """The other has its row, and waits for the account that this one has: neither would ever go on."""
    user_id = await line.person(max_in_flight=1)
    for_now, ending, following = [await line.submit(user_id) for _ in range(3)]
    [claimed] = await line.claim(10)
    assert claimed.id == for_now.id
    async with pool.acquire() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("SELECT FROM generations WHERE id = $1 FOR UPDATE", ending.id)
        async with asyncio.timeout(20):
            assert ids(await line.finish(claimed)) == [following.id]


async def test_who_was_held_back_does_not_make_up_for_it(line: Line) -> None:
    """Others went on meanwhile: it joins the line where it is now, not where it would have been."""
    capped, other = await line.person(max_in_flight=1), await line.person()
    for _ in range(3):
        await line.submit(capped)
    [mine] = await line.claim(1)
    for _ in range(10):
        await line.submit(other)
    await line.claim(8)
    [let_in] = await line.finish(mine)
    assert let_in.vstart >= await line.clock()
    assert [generation.user_id for generation in await line.claim(2)].count(other) == 1


@pytest.mark.parametrize("meets", [False, True], ids=["", "where-lines-meet"])
@pytest.mark.parametrize("held_back", [False, True])
async def test_a_claim_reads_what_it_takes_however_many_wait(line: Line, *, held_back: bool, meets: bool) -> None:
    """Ten thousand wait, or are held back: the claim reads the head of the line by its index, and nothing else.

    Where lines meet it looks up what each of those costs; and it reads what is in hand.
    """
    user_id, other = await line.person(), await line.person()
    lanes = [{"type": "text", "name": "", "endpoint_id": "", "most": BATCH}]
    here = [{"type": "text", "name": "text", "endpoint_id": "text"}]
    transaction = line.connection.transaction()
    await transaction.start()
    try:
        # Holds and triggers are of no interest here.
        await line.connection.execute("SET LOCAL session_replication_role = replica")
        await line.connection.execute(FILL, [user_id], CROWD, held_back)
        await line.submit(other)
        await line.connection.execute("ANALYZE generations")
        heads, pass_time = sql.load(line_.__file__)["heads"], sql.load(line_time.__file__)["pass_time"]
        price = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS)
        explain = "EXPLAIN (ANALYZE, FORMAT JSON) "
        await line.connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        plan = await line.connection.fetchval(explain + heads, lanes, here, None, [], meets, *price)
        in_hand = await line.connection.fetchval(explain + pass_time, [], ["nowhere"], [], *price, None)
        read = rows_read(plan[0]["Plan"])
    finally:
        await transaction.rollback()
    assert read["generations_line"] == (1 if held_back else BATCH)
    taken = read["generations_line"]
    assert sum(read.values()) <= taken + meets * taken
    assert not {"Seq Scan", "generations_line"} & {name for name, rows in rows_read(in_hand[0]["Plan"]).items() if rows}


async def test_what_a_claim_does_is_planned_once_a_session(line: Line) -> None:
    """And nothing else that this connection does: lists with filters need a plan for each."""
    mode = "SELECT current_setting('plan_cache_mode')"
    async with line.connection.transaction():
        await line_.lock(line.connection, ["text"])
        assert await line.connection.fetchval(mode) == "force_generic_plan"
    assert await line.connection.fetchval(mode) == "auto"


def rows_read(plan: dict[str, Any]) -> dict[str, int]:
    """How many rows of `generations` were read, by index."""
    nodes, read = [plan], defaultdict[str, int](int)
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == "generations" and node["Node Type"].endswith("Scan"):
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            read[node.get("Index Name", node["Node Type"])] += round(rows * node["Actual Loops"])
    return dict(read)


async def test_who_was_held_back_comes_in_as_if_it_were_submitted_now(line: Line) -> None:
    """A plan lets ten of a person be on their way. They all end at once: the next ten are not all put before others."""
    crowd, busy = await line.person(max_in_flight=10), await line.person()
    for _ in range(30):
        await line.submit(crowd)
    for _ in range(100):
        await line.submit(busy)
    first = [generation for generation in await line.claim(70) if generation.user_id == crowd]
    assert len(first) == 10
    for generation in first:
        await line.finish(generation)
    single = await line.submit(await line.person())
    ahead = []
    while (sent := (await line.claim(1))[0]).id != single.id:
        ahead.append(sent.user_id)
    assert ahead.count(crowd) <= 1


@pytest.mark.parametrize("kinds", [(Type.TEXT, Type.VIDEO), (Type.VIDEO, Type.TEXT)])
async def test_the_oldest_that_is_held_back_is_next_whatever_its_type(line: Line, kinds: tuple[Type, Type]) -> None:
    """The lines of texts and videos are at moments of their own, which say nothing about who came first."""
    user_id = await line.person(max_in_flight=1)
    await line.submit(user_id)
    [first] = await line.claim(10)
    older, newer = [await line.submit(user_id, kind=kind) for kind in kinds]
    assert ids(await line.finish(first)) == [older.id]
    [second] = await line.claim(10)
    assert ids(await line.finish(second)) == [newer.id]


async def test_all_that_are_let_in_at_once_stand_one_after_the_other(line: Line) -> None:
    user_id = await line.person(max_in_flight=1)
    for _ in range(6):
        await line.submit(user_id)
    [first] = await line.claim(10)
    await set_limit(line.connection, user_id, None)
    let_in = sorted(generation.vstart for generation in await line.finish(first))
    assert [after - before for before, after in pairwise(let_in)] == [CREDIT_IN_LINE] * 4
    later = await line.submit(user_id)
    assert later.vstart == let_in[-1] + CREDIT_IN_LINE, "and whoever is submitted now stands behind them"


async def test_what_is_held_back_takes_no_room_in_the_line(line: Line) -> None:
    """Who is let in stands right behind the person's own that was sent, however many are held back."""
    user_id = await line.person(max_in_flight=1)
    for _ in range(5):
        await line.submit(user_id)
    [first] = await line.claim(10)
    [second] = await line.finish(first)
    assert second.vstart == first.vstart + CREDIT_IN_LINE
