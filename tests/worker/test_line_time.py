"""How much time passes at an endpoint where lines meet, in what is kept of it."""

import asyncio

from shared import sql
from shared.database import Pool
from shared.generations import CREDIT_IN_LINE, Generation, Type
from tests.worker.crowds import HERE, crowds, placed, sent, sent_ahead
from tests.worker.line import Line, ids
from tests.worker.test_lines_that_meet import line
from worker import line_time, sweep
from worker.line_time import Behind

__all__ = ["line"]


async def others(line: Line, kind: Type) -> float | None:
    """What others were served there since one of the type was, in credits; None: it was never served."""
    kept = await line.connection.fetchval(
        "SELECT others FROM queue_meetings WHERE endpoint_id = 'shared' AND type::text = $1", kind.value
    )
    return None if kept is None else kept / CREDIT_IN_LINE


async def videos_wait(line: Line) -> None:
    """One was served there, and more wait."""
    await crowds(line, {Type.VIDEO: 10}, 9)
    await sent(line, HERE, {"shared": 1})
    assert await others(line, Type.VIDEO) == 0


async def test_what_one_is_served_passes_for_time_in_the_others_line(line: Line) -> None:
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 4)
    clock = await line.clock(Type.VIDEO)
    await sent(line, HERE, {"shared": 3})
    assert await others(line, Type.VIDEO) == 4, "from the one who came new to the third"
    assert await line.clock(Type.VIDEO) == clock + 4 * CREDIT_IN_LINE
    await sent(line, HERE, {"own": 1})
    assert await others(line, Type.VIDEO) == 4, "what goes elsewhere takes no time there"
    assert await others(line, Type.TEXT) == 0


async def test_no_job_takes_more_time_than_it_costs(line: Line) -> None:
    """Many were served elsewhere before it."""
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 12)
    await sent(line, HERE, {"shared": 1})
    for _ in range(9):
        await sent(line, HERE, {"own": 1})
    before = await others(line, Type.VIDEO)
    assert before is not None
    await sent(line, HERE, {"shared": 1})
    assert await others(line, Type.VIDEO) == before + 2


async def test_who_stands_alike_takes_time_once(line: Line) -> None:
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 3, {Type.TEXT: 3})
    await sent(line, HERE, {"shared": 3})
    assert await others(line, Type.VIDEO) == 0, "they came new"
    for _ in range(3):
        await sent(line, HERE, {"shared": 1})
    assert await others(line, Type.VIDEO) == 2


async def test_what_the_clock_has_passed_counts_by_its_cost(line: Line) -> None:
    """It wanted the endpoint by name, and is sent after others of its type that came later."""
    await videos_wait(line)
    named = await line.person()
    waits = [await line.submit(named, cost=3, wanted="text") for _ in range(2)]
    await crowds(line, {Type.TEXT: 2}, 8)
    await line.connection.execute("UPDATE generations SET due_at = now() + interval '1 hour' WHERE user_id = $1", named)
    await sent(line, HERE, {"shared": 5})
    before = await others(line, Type.VIDEO)
    assert before is not None
    await line.connection.execute("UPDATE generations SET due_at = now() WHERE user_id = $1", named)
    assert ids(await placed(line, HERE, {"shared": 2})) == ids(waits)
    assert await others(line, Type.VIDEO) == before + 6


async def test_what_was_sent_ahead_counts_once_when_it_is_in_hand(line: Line) -> None:
    """Other endpoints have gone on meanwhile, and the clock has passed it."""
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 16)
    await line.connection.execute(
        "UPDATE generations SET due_at = now() + interval '1 hour' WHERE type = 'video' AND state = 'reserved'"
    )
    hand: list[Generation] = []
    counted = []
    for _ in range(5):
        for _ in range(2):
            await sent(line, HERE, {"own": 1})
        await sent_ahead(line, HERE, hand)
        counted.append(await others(line, Type.VIDEO))
    assert counted == [2, 2, 4, 6, 8], "the first began at once; of each other, when the next one is sent"
    for _ in range(2):
        await line_time.pass_time(line.connection, HERE, in_hand=["shared"])
    assert await others(line, Type.VIDEO) == 10, "the last, and once"


async def test_who_is_served_had_what_others_were_served_before(line: Line) -> None:
    """So less time passes with it for them; and what they were served is forgotten."""
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 1)
    await sent(line, HERE, {"shared": 1})
    await line.connection.execute("UPDATE queue_meetings SET others = $1 WHERE type = 'video'", 4 * CREDIT_IN_LINE)
    await sent(line, HERE, {"shared": 2})
    assert await others(line, Type.VIDEO) == 0
    assert await others(line, Type.TEXT) == 16, "of twenty"


async def test_who_comes_new_is_first_however_far_their_line_is_behind(line: Line) -> None:
    """It is a video's turn, and texts had much elsewhere."""
    await videos_wait(line)
    await crowds(line, {Type.TEXT: 2}, 6)
    await sent(line, HERE, {"shared": 1})
    for _ in range(3):
        await sent(line, HERE, {"own": 1})
    await line.connection.execute(
        """UPDATE queue_clock SET vtime = (
               SELECT min(vstart) - 1 FROM generations
               WHERE type = 'video' AND state = 'reserved' AND cancel_requested_at IS NULL
           ) WHERE type = 'video'"""
    )
    await line.connection.execute(
        "UPDATE queue_meetings SET others = CASE type WHEN 'text' THEN 0 ELSE $1 END", 10 * CREDIT_IN_LINE
    )
    single = await line.submit(await line.person())
    assert ids(await placed(line, HERE, {"shared": 1})) == [single.id]
    assert [each.type for each in await placed(line, HERE, {"shared": 1})] == [Type.VIDEO]


async def test_who_begins_anew_waits_for_no_claim(line: Line, pool: Pool) -> None:
    """A claim has what is kept of one endpoint."""
    await line.connection.execute(
        "INSERT INTO queue_meetings SELECT name, 'modify', 0, 0 FROM unnest('{here,there}'::text[]) AS name"
    )
    async with pool.acquire() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("UPDATE queue_meetings SET others = 1 WHERE endpoint_id = 'here'")
        async with asyncio.timeout(20):
            await line.connection.execute(sql.load(sweep.__file__)["rest_lines"])
    left = await line.connection.fetch("SELECT endpoint_id FROM queue_meetings WHERE type = 'modify'")
    assert [row["endpoint_id"] for row in left] == ["here"]


async def test_where_one_type_is_sent_nothing_is_kept(line: Line) -> None:
    await crowds(line, {Type.TEXT: 2}, 3)
    await sent(line, HERE, {"own": 3})
    assert await line.connection.fetchval("SELECT count(*) FROM queue_meetings") == 0


def test_a_line_is_behind_by_one_job_of_who_waits_and_less_what_others_had() -> None:
    assert Behind(since=7, others=0).lag(3) == 3
    assert Behind(since=2, others=0).lag(3) == 2
    assert Behind(since=7, others=2).lag(3) == 1
    assert Behind(since=7, others=9).lag(3) == 0
    assert Behind(since=-1, others=0).lag(3) == 0


def test_lines_meet_where_several_types_are_sent() -> None:
    assert line_time.shared_among(HERE, ["own", "shared"]) == {"shared"}
    assert line_time.shared_among(HERE, ["own"]) == set()


async def test_a_late_one_in_hand_takes_time_once(line: Line) -> None:
    """However often it is looked whether the next may be sent."""
    late = await line.submit(await line.person(), cost=3)
    await line.connection.execute("UPDATE queue_clock SET vtime = vtime + 10 ^ 9 WHERE type = 'text'")
    clock = await line.clock()
    for _ in range(3):
        claimed = await placed(line, HERE, {"shared": 1}, learnt=["shared"])
        assert set(ids(claimed)) <= {late.id}
        assert await line.clock() == clock + 3 * CREDIT_IN_LINE
