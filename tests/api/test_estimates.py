"""What is told of the time left: what the numbers say, and nothing when they say nothing."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from api.estimates import AHEAD_LIMIT, SHARES, Durations, History
from shared import sql
from shared.database import Connection, Pool
from tests.worker.line import FILL, Line

ROOT = Path(__file__).parents[2]
RUN = Durations([*range(10), *(10 + 2.5 * step for step in range(8)), 30, 40, 50])
"""Half took up to 10 s, nine tenths up to 30 s, the slowest 50 s."""


@pytest.mark.parametrize(
    ("in_flight", "sent_per_second", "ahead", "expected"),
    [
        (0, 0, 0, {"p50": 10, "p90": 30}),
        (0, 0, 3, None),
        (1, 0, 3, {"p50": 40, "p90": 120}),
        (10, 0, 3, {"p50": 13, "p90": 39}),
        (0, 0.5, 3, {"p50": 16, "p90": 36}),
        (1, 0.5, 3, {"p50": 16, "p90": 36}),
        (100, 0.5, 3, {"p50": 11, "p90": 31}),
    ],
)
def test_the_line_moves_as_fast_as_the_faster_evidence_says(
    in_flight: int, sent_per_second: float, ahead: int, expected: object
) -> None:
    assert History({}, RUN, in_flight, sent_per_second).behind(ahead) == expected


def test_without_a_history_nothing_is_told() -> None:
    assert History({}, None, 5, 1).behind(0) is None


def test_who_wants_an_endpoint_is_told_by_its_own_history() -> None:
    slow = Durations([100.0] * 21)
    told = History({"slow": slow}, RUN, 0, 0)
    assert told.behind(0, wanted="slow") == {"p50": 100, "p90": 100}
    assert told.behind(0, wanted="new") == {"p50": 10, "p90": 30}


def test_a_place_that_is_not_known_says_nothing_of_the_time() -> None:
    """As many are ahead as are counted, or many times as many."""
    assert History({}, RUN, 100, 1).behind(AHEAD_LIMIT - 1) is not None
    assert History({}, RUN, 100, 1).behind(AHEAD_LIMIT) is None


def test_what_is_sent_counts_from_there() -> None:
    assert RUN.remaining(0) == {"p50": 10, "p90": 30}
    assert RUN.remaining(31) is None, "slower than most: nobody knows"


def test_what_is_left_is_told_by_those_that_took_as_long() -> None:
    """After 20 s three tenths were still going: half of these took up to 27.5 s, nine tenths of them up to 44 s."""
    assert RUN.remaining(20) == {"p50": 8, "p90": 24}
    assert RUN.remaining(10) == {"p50": 13, "p90": 30}


@pytest.mark.parametrize("quantiles", [[10] * 11 + [100] * 10, [0] * 20 + [60], [5.0] * 21, list(range(21))])
def test_what_is_left_is_more_than_nothing_and_less_for_half_than_for_most(quantiles: list[float]) -> None:
    """Also when half of them took ten seconds, and it is going on for fifty."""
    durations = Durations(quantiles)
    for tenths in range(1000):
        left = durations.remaining(tenths / 10)
        assert left is None or 0 < left["p50"] <= left["p90"]


def test_nobody_is_told_that_it_is_ready_who_waits_for_the_slow_half() -> None:
    left = Durations([10] * 11 + [100] * 10).remaining(50)
    assert left == {"p50": 50, "p90": 50}


def test_what_took_no_time_is_no_division_by_zero() -> None:
    assert History({}, Durations([0.0] * 21), 1, 0).behind(2) is None


async def plan(connection: Connection, module: str, name: str, *arguments: object) -> str:
    statement = sql.load(str(ROOT / module))[name]
    rows = await connection.fetch(f"EXPLAIN {statement}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_each_look_is_by_its_index_under_the_policies_too(pool: Pool) -> None:
    async with pool.acquire() as connection:
        line = Line(connection)
        crowd = [await line.person() for _ in range(50)]
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(FILL, crowd, 10_000, False)
            await connection.execute("ANALYZE generations")
            assert "generations_line" in await plan(connection, "api/estimates.sql", "line", "text", 1000)
            assert "generations_due_poll" in await plan(connection, "api/estimates.sql", "in_flight", "text", 10_000)
            assert "generations_recent" in await plan(
                connection,
                "api/estimates.sql",
                "recent",
                "text",
                timedelta(hours=24),
                500,
                timedelta(minutes=1),
                SHARES,
            )
            claims = orjson.dumps({"sub": crowd[0], "role": "authenticated"}).decode()
            await connection.execute(sql.load(str(ROOT / "api/state.sql"))["become"], claims)
            assert "generations_open" in await plan(connection, "api/history.sql", "open_ones", crowd[0], 100)
            assert "generations_open" in await plan(connection, "api/web/live.sql", "waiting", crowd[0], 50)
        finally:
            await transaction.rollback()
