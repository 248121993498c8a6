"""Ten thousand jobs in flight at three endpoints: a claim of polls reads what is due there, and nothing else."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from shared import sql
from shared.database import Connection, Pool
from worker import lease

STATEMENTS = sql.load(lease.__file__)
IN_FLIGHT = 10_000
# Rows are put there without their accounts, holds and transitions: only the claim is looked at.
FILL = """
INSERT INTO generations (
    id, user_id, type, prompt, batch_size, state, due_at, deadline_at, hold_id, price_version, quoted, attempt,
    endpoint, endpoint_id, remote_id, submitted_at, transition_actor, transition_reason
)
SELECT gen_random_uuid(), 'somebody', 'image', 'a kite', 1, 'submitted', now() + (n % 100 - 1) * interval '1 second',
    now() + interval '1 hour', gen_random_uuid(), 1, 5, 1,
    'ep-' || n % 3, 'ep-' || n % 3, 'job-' || n, now(), 'test', 'test'
FROM generate_series(1, $1::integer) AS n
"""


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(FILL, IN_FLIGHT)
        await connection.execute(
            "INSERT INTO endpoint_states (endpoint_id, name, type) SELECT 'ep-' || n, 'ep-' || n, 'image' "
            "FROM generate_series(0, 2) AS n"
        )
        await connection.execute("ANALYZE generations")
        yield connection
        await transaction.rollback()


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def reads(connection: Connection, statement: str, *arguments: Any) -> list[dict[str, Any]]:
    """How a statement reads the table of generations, when it is run."""
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {STATEMENTS[statement]}", *arguments)
    plan = orjson.loads(explained) if isinstance(explained, str) else explained
    return [node for node in nodes(plan[0]["Plan"]) if node.get("Relation Name") == "generations"]


async def test_counting_and_claiming_read_only_what_is_due(connection: Connection) -> None:
    due = await lease.due_polls(connection, limit=50)
    assert due == dict.fromkeys(("ep-0", "ep-1", "ep-2"), lease.DuePolls(polls=50, heard=0))
    for node in await reads(connection, "due_polls", 50, None):
        assert node["Actual Rows"] <= 50, node
        assert "Seq Scan" not in node["Node Type"], node
    held = (uuid4(), timedelta(seconds=30))
    scans = await reads(connection, "claim_polls", *held, ["ep-0", "ep-2"], [50, 20], None)
    assert any(node.get("Index Name") == "generations_due_poll_at" for node in scans)
    assert all("Seq Scan" not in node["Node Type"] for node in scans), scans


async def test_each_endpoint_has_its_own_places(connection: Connection) -> None:
    claimed = await lease.claim_polls(
        connection,
        lease_token=uuid4(),
        lease=timedelta(seconds=30),
        places={"ep-0": 3, "ep-1": 1, "ep-2": 0, "elsewhere": 5},
    )
    assert sorted(generation.endpoint_id or "" for generation in claimed) == ["ep-0"] * 3 + ["ep-1"]


async def test_what_was_heard_of_does_not_stand_in_line(connection: Connection) -> None:
    """A webhook and a cancel come now, and a hundred have been due for longer: both are asked about first."""
    hurried = await connection.fetch(
        "UPDATE generations SET due_at = now(), heard_attempt = CASE WHEN remote_id = 'job-9' THEN 1 END, "
        "cancel_requested_at = CASE WHEN remote_id = 'job-12' THEN now() END "
        "WHERE remote_id IN ('job-9', 'job-12') RETURNING id"
    )
    claimed = await lease.claim_polls(
        connection, lease_token=uuid4(), lease=timedelta(seconds=30), places={"ep-0": 3, "ep-1": 1}
    )
    assert len(claimed) == 4
    of_this_endpoint = [generation.id for generation in claimed if generation.endpoint_id == "ep-0"]
    assert {row["id"] for row in hurried} < set(of_this_endpoint)
    more = await lease.claim_polls(connection, lease_token=uuid4(), lease=timedelta(seconds=30), places={"ep-0": 3})
    assert not {generation.id for generation in more} & {row["id"] for row in hurried}, "they are leased"


async def test_what_was_heard_of_leaves_no_more_than_its_place_to_others(connection: Connection) -> None:
    await connection.execute("UPDATE generations SET due_at = now(), heard_attempt = 1 WHERE remote_id LIKE 'job-3%'")
    claimed = await lease.claim_polls(
        connection, lease_token=uuid4(), lease=timedelta(seconds=30), places={"ep-0": 5, "ep-1": 0}
    )
    assert [generation.heard_attempt for generation in claimed] == [1] * 5
    for node in await reads(connection, "claim_polls", uuid4(), timedelta(seconds=30), ["ep-0"], [5], None):
        assert node["Actual Rows"] <= 5, node
