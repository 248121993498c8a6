"""What is told of the time left: what the numbers say, and nothing when they say nothing."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from api.estimates import Durations, History
from shared import sql
from shared.database import Connection, Pool
from tests.worker.line import FILL, Line

ROOT = Path(__file__).parents[2]
RUN = Durations(p50=10, p90=30)


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


def test_what_is_sent_counts_from_there() -> None:
    assert RUN.remaining(4) == {"p50": 6, "p90": 26}
    assert RUN.remaining(20) == {"p50": 0, "p90": 10}
    assert RUN.remaining(31) is None, "slower than most: nobody knows"


def test_what_took_no_time_is_no_division_by_zero() -> None:
    assert History({}, Durations(p50=0, p90=0), 1, 0).behind(2) is None


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
                connection, "api/estimates.sql", "recent", "text", timedelta(hours=24), 500, timedelta(minutes=1)
            )
            claims = orjson.dumps({"sub": crowd[0], "role": "authenticated"}).decode()
            await connection.execute(sql.load(str(ROOT / "api/state.sql"))["become"], claims)
            assert "generations_open" in await plan(connection, "api/history.sql", "open_ones", crowd[0], 100)
            assert "generations_open" in await plan(connection, "api/web/live.sql", "waiting", crowd[0], 50)
        finally:
            await transaction.rollback()
