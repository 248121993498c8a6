"""What is told of the time left, from the rows: of who waits, of who is held back, and of who was sent."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from api import waiting
from api.durations import SHARES
from api.estimates import AGES, COUNT_LIMIT, JUST_NOW, LEARNT, RECENT, SERVED, Estimates, Queue
from api.waiting import read_own
from shared import generations, sql
from shared.database import Connection, Pool
from shared.generations import Generation, State, Type
from tests.api.ladder import climb
from tests.worker.line import FILL, Line

ROOT = Path(__file__).parents[2]
HOUR_AGO = """
UPDATE generations SET
    submitted_at = now() - interval '1 hour' - make_interval(secs => $2), finished_at = now() - interval '1 hour',
    endpoint = coalesce($3, endpoint)
WHERE id = $1
"""


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """One that keeps nothing of what a test does."""
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


async def took(connection: Connection, *seconds: float, endpoint: str | None = None) -> list[UUID]:
    """Videos that took so long, an hour ago."""
    line = Line(connection)
    whose = await line.person()
    done = []
    for each in seconds:
        generation = await line.submit(whose, kind=Type.VIDEO)
        await climb(connection, generation.id, State.COMPLETED)
        await connection.execute(HOUR_AGO, generation.id, each, endpoint)
        done.append(generation.id)
    return done


async def stand(connection: Connection, *open_ones: Generation) -> list[Queue]:
    """Where they stand by what the rows say now."""
    now = [await generations.get(connection, each.id) for each in open_ones]
    found = [each for each in now if each is not None]
    own = {each.user_id: await read_own(connection, each.user_id) for each in found if each.held_back}
    queues = await Estimates().queues(connection, found, own=own, now=datetime.now(UTC))
    return [queues[each.id] for each in found]


async def halves(connection: Connection, *open_ones: Generation) -> list[int | None]:
    """In how many seconds half of such are ready."""
    queues = await stand(connection, *open_ones)
    return [queue["eta_seconds"]["p50"] if queue["eta_seconds"] is not None else None for queue in queues]


async def known_endpoint(connection: Connection, **columns: Any) -> None:
    """The endpoint of videos, as a worker knows it."""
    names = ["endpoint_id", "name", "type", *columns]
    values = ["'ep-video'", "'video'", "'video'", *(f"${number + 1}" for number in range(len(columns)))]
    statement = f"INSERT INTO endpoint_states ({', '.join(names)}) VALUES ({', '.join(values)})"  # noqa: S608
    await connection.execute(statement, *columns.values())


async def sent(connection: Connection, generation: Generation, *, ago: float) -> None:
    """It was sent so many seconds ago."""
    await climb(connection, generation.id, State.SUBMITTED)
    await connection.execute(
        "UPDATE generations SET submitted_at = now() - make_interval(secs => $2) WHERE id = $1", generation.id, ago
    )


async def test_what_is_held_back_is_told_when_its_turn_comes(connection: Connection) -> None:
    line = Line(connection)
    whose = await line.person(max_in_flight=1)
    first, second, third = [await line.submit(whose, kind=Type.VIDEO) for _ in range(3)]
    assert await halves(connection, first, second, third) == [None, None, None], "nothing is known of videos"
    await took(connection, 10, 10, 10, 10, 10)
    assert await halves(connection, first, second, third) == [10, 20, 30]
    assert [queue["position"] for queue in await stand(connection, first, second)] == [0, None]
    await sent(connection, first, ago=4)
    assert await halves(connection, first, second, third) == [6, 16, 26]
    await connection.execute(
        "UPDATE generations SET submitted_at = now() - interval '1 minute' WHERE id = $1", first.id
    )
    assert await halves(connection, first, second, third) == [None, 20, 30], "as if it were sent now"


async def test_what_is_held_back_waits_for_others_that_are_in_line(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    await line.submit(await line.person(), kind=Type.VIDEO)
    whose = await line.person(max_in_flight=2)
    *_, held = [await line.submit(whose, kind=Type.VIDEO) for _ in range(3)]
    [queue] = await stand(connection, held)
    assert queue["held_back"]
    # one of its own is ready in 20 s, behind the other's, whose like it will have before it, as far as is known now
    assert queue["eta_seconds"] == {"p50": 40, "p90": 40}


async def test_behind_what_nobody_knows_of_nothing_is_told(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    whose = await line.person(max_in_flight=1)
    text = await line.submit(whose, kind=Type.TEXT)
    video = await line.submit(whose, kind=Type.VIDEO)
    assert await halves(connection, text, video) == [None, None]
    another = await line.person(max_in_flight=1)
    kinds = (Type.VIDEO, Type.VIDEO, Type.TEXT, Type.VIDEO)
    first, second, text, last = [await line.submit(another, kind=kind) for kind in kinds]
    assert await halves(connection, second) != [None]
    assert await halves(connection, text, last) == [None, None]
    assert await halves(connection, first) != [None]


async def test_behind_a_thousand_it_is_told_by_the_hundred(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    crowd = [await line.person()]
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(FILL, crowd, 3000, False)
    await connection.execute(
        "UPDATE generations SET type = 'video', vstart = vstart + 100 WHERE user_id = $1", crowd[0]
    )
    await connection.execute("SET LOCAL session_replication_role = origin")
    one = await line.submit(await line.person(), kind=Type.VIDEO)
    await connection.execute("UPDATE generations SET vstart = 2650 WHERE id = $1", one.id)
    [queue] = await stand(connection, one)
    assert queue["position"] == waiting.AHEAD_LIMIT
    assert queue["eta_seconds"] == {"p50": 10 + 2500 * 10, "p90": 10 + 2500 * 10}


async def test_who_is_next_waits_for_the_job_in_hand(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    await known_endpoint(connection, said_limit=1)
    one = await line.submit(await line.person(), kind=Type.VIDEO)
    assert await halves(connection, one) == [10], "there is a place"
    in_hand = await line.submit(await line.person(), kind=Type.VIDEO)
    await sent(connection, in_hand, ago=4)
    assert await halves(connection, one) == [10 + 6]
    await connection.execute("UPDATE endpoint_states SET said_limit = 2")
    assert await halves(connection, one) == [10]


async def test_a_learnt_limit_counts_while_it_is_fresh_and_nobody_says_another(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    await known_endpoint(connection, learnt_limit=1, learnt_seen=0, learnt_at=datetime.now(UTC))
    one, in_hand = [await line.submit(await line.person(), kind=Type.VIDEO) for _ in range(2)]
    await sent(connection, in_hand, ago=4)
    assert await halves(connection, one) == [10 + 6]
    await connection.execute("UPDATE endpoint_states SET learnt_at = now() - $1::interval - interval '1 s'", LEARNT)
    assert await halves(connection, one) == [10]
    await connection.execute("UPDATE endpoint_states SET learnt_at = now(), said_limit = 5")
    assert await halves(connection, one) == [10]


async def test_jobs_of_other_types_take_room_at_a_shared_endpoint(connection: Connection) -> None:
    """It is known by the name that it has for one of them."""
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10, endpoint="clips")
    await known_endpoint(connection, said_limit=1)
    await connection.execute("UPDATE endpoint_states SET type = 'image'")
    picture = await line.submit(await line.person(), kind=Type.IMAGE)
    await climb(connection, picture.id, State.SUBMITTED)
    await connection.execute("UPDATE generations SET endpoint_id = 'ep-video' WHERE id = $1", picture.id)
    one = await line.submit(await line.person(), kind=Type.VIDEO)
    [half] = await halves(connection, one)
    assert half is not None
    assert 10 + 9 <= half <= 10 + 10


async def test_who_wants_an_endpoint_is_told_by_its_history_whatever_others_served(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 100, 100, 100, 100, 100, endpoint="slow")
    await took(connection, 10, 10, 10, 10, 10, 10, endpoint="quick")
    whose = await line.person()
    slow = await line.submit(whose, kind=Type.VIDEO, wanted="slow")
    quick = await line.submit(whose, kind=Type.VIDEO, wanted="quick")
    assert await halves(connection, slow, quick) == [100, 10], "nobody before them wants the same"
    anywhere = await line.submit(whose, kind=Type.VIDEO)
    [before] = await halves(connection, anywhere)
    await connection.execute(
        "UPDATE generations SET finished_at = finished_at + interval '55 minutes', "
        "submitted_at = submitted_at + interval '55 minutes' WHERE endpoint = 'quick'"
    )
    [after] = await halves(connection, anywhere)
    assert before is not None
    assert after == 10 + 2 * 10 < before, "those that finished lately were all served there"


async def test_an_endpoint_that_seldom_serves_keeps_its_own_history(connection: Connection) -> None:
    await took(connection, 100, 100, 100, 100, 100, endpoint="seldom")
    await took(connection, *[10.0] * 8, endpoint="busy")
    recent = sql.load(str(ROOT / "api/estimates.py"))["recent"]
    rows = await connection.fetch(recent, "video", RECENT, 5, SHARES, SERVED, JUST_NOW, COUNT_LIMIT)
    assert {row["endpoint"]: (row["finished"], row["quantiles"][10]) for row in rows} == {
        "busy": (5, 10),
        "seldom": (5, 100),
    }


async def test_too_few_of_each_tell_together(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, endpoint="a")
    await took(connection, 20, 20, endpoint="b")
    one = await line.submit(await line.person(), kind=Type.VIDEO)
    assert await halves(connection, one) == [None]
    await took(connection, 20, endpoint="b")
    assert await halves(connection, one) == [20]


async def test_of_who_was_sent_the_endpoint_tells_what_is_left(connection: Connection) -> None:
    line = Line(connection)
    await took(connection, 10, 10, 10, 10, 10)
    one = await line.submit(await line.person(), kind=Type.VIDEO)
    await sent(connection, one, ago=4)
    assert await stand(connection, one) == [{"position": None, "held_back": False, "eta_seconds": {"p50": 6, "p90": 6}}]


async def plan(connection: Connection, module: str, name: str, *arguments: object) -> str:
    statement = sql.load(str(ROOT / module))[name]
    rows = await connection.fetch(f"EXPLAIN {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_each_look_is_by_its_index_under_the_policies_too(connection: Connection) -> None:
    line = Line(connection)
    crowd = [await line.person() for _ in range(50)]
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(FILL, crowd, 10_000, False)
    await connection.execute("ANALYZE generations")
    assert "generations_line" in await plan(connection, "api/waiting.sql", "line", "text", 1000)
    assert "generations_open" in await plan(connection, "api/waiting.sql", "own", crowd[0], 100)
    assert "generations_held_back" in await plan(connection, "api/waiting.sql", "held_back", crowd[0], 1000)
    doors = await plan(connection, "api/estimates.sql", "doors", "text", [], [], timedelta(seconds=90), 10_000, AGES)
    assert "generations_due_poll" in doors
    recent = await plan(
        connection, "api/estimates.sql", "recent", "text", RECENT, 500, SHARES, SERVED, JUST_NOW, COUNT_LIMIT
    )
    assert (recent.count("generations_recent_there"), recent.count("Seq Scan")) == (3, 0), recent
    claims = orjson.dumps({"sub": crowd[0], "role": "authenticated"}).decode()
    await connection.execute(sql.load(str(ROOT / "api/state.sql"))["become"], claims)
    assert "generations_open" in await plan(connection, "api/history.sql", "open_ones", crowd[0], 100)
    assert "generations_open" in await plan(connection, "api/web/live.sql", "waiting", crowd[0], 50)
