"""Generations that cannot be: each rule of a row broken alone, each move from each state, whoever writes."""

from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared import generations, ledger
from shared.database import Connection
from shared.generations import Type

MOVES = {
    "reserved": {"submitting", "submitted", "failed", "cancelled"},
    "submitting": {"reserved", "submitted", "failed", "cancelled"},
    "submitted": {"reserved", "running", "finishing", "failed", "cancelled"},
    "running": {"submitted", "finishing", "failed", "cancelled"},
    "finishing": {"submitted", "completed", "failed", "cancelled"},
    "completed": set[str](),
    "failed": {"reserved"},
    "cancelled": {"reserved"},
}
ENDED = "charged = 0, finished_at = now(), due_at = NULL, deadline_at = NULL"
# What a row has besides its state.
STATES = {
    "reserved": "attempt = 0",
    "submitting": "attempt = 1",
    "submitted": "attempt = 1, remote_id = 'job', submitted_at = now()",
    "running": "attempt = 1, remote_id = 'job', submitted_at = now()",
    "finishing": "attempt = 1",
    "completed": f"""attempt = 1, outputs = '["a.png"]', {ENDED}""",
    "failed": f"error_code = 'failed', {ENDED}",
    "cancelled": ENDED,
}


async def held(conn: Connection, user_id: str, generation_id: UUID) -> UUID:
    """A hold for this generation."""
    reservation = await ledger.reserve(
        conn,
        user_id=user_id,
        key=f"reserve:{generation_id}",
        generation_id=generation_id,
        amount=0,
        expires_at=datetime.now(UTC) + timedelta(days=1),
        price={},
    )
    assert reservation.hold_id is not None
    return reservation.hold_id


async def reserved(conn: Connection, user_id: str, *, client_reference: str | None = None) -> UUID:
    """A generation of this person that waits for its owner."""
    generation_id = uuid4()
    await generations.insert(
        conn,
        generation_id=generation_id,
        user_id=user_id,
        generation_type=Type.IMAGE,
        prompt="a lighthouse",
        batch_size=1,
        parameters={},
        source=None,
        client_reference=client_reference,
        request_id=None,
        hold_id=await held(conn, user_id, generation_id),
        price_version=2,
        quoted=0,
    )
    return generation_id


@pytest.fixture
async def made(draft: Connection) -> UUID:
    """A generation, rolled back with the draft."""
    return await reserved(draft, f"user_{uuid4().hex}")


async def put(conn: Connection, generation_id: UUID, state: str) -> None:
    """Into that state, past the guards: they are looked at afterwards."""
    await conn.execute("SET LOCAL session_replication_role = replica")
    await conn.execute(f"UPDATE generations SET state = '{state}', {STATES[state]} WHERE id = $1", generation_id)  # noqa: S608
    await conn.execute("SET LOCAL session_replication_role = origin")


_PURGED = "deleted_at = now(), purged_at = now()"
RULES: dict[str, list[tuple[str, str]]] = {
    "attempt_check": [("reserved", "attempt = -1")],
    "batch_size_check": [("reserved", "batch_size = 0"), ("reserved", "batch_size = 65")],
    "called_has_attempt": [("submitting", "attempt = 0")],
    "charge_within_quote": [("completed", "charged = quoted + 1")],
    "charged_check": [("completed", "charged = -1")],
    "client_reference_check": [
        ("reserved", "client_reference = ''"),
        ("reserved", "client_reference = repeat('x', 256)"),
    ],
    "completed_delivers": [("completed", "outputs = '[]'")],
    "delay_ms_check": [("completed", "delay_ms = -1")],
    "deleted_is_over": [("reserved", "deleted_at = now(), purge_due_at = now()")],
    "estimated_seconds": [("reserved", "estimated_seconds = 0")],
    "execution_ms_check": [("completed", "execution_ms = -1")],
    "failed_is_free": [("failed", "quoted = 1, charged = 1")],
    "failed_says_why": [("failed", "error_code = NULL"), ("reserved", "error_code = 'failed'")],
    "heard_attempt_check": [("reserved", "heard_attempt = 0")],
    "held_back_waits": [("submitting", "held_back = true")],
    "modify_has_source": [("reserved", "type = 'modify'"), ("reserved", "source = '{}'")],
    "open_has_deadline": [("reserved", "deadline_at = NULL"), ("completed", "deadline_at = now()")],
    "open_is_due": [("reserved", "due_at = NULL"), ("completed", "due_at = now()")],
    "outputs_check": [("reserved", "outputs = '{}'")],
    "parameters_check": [("reserved", "parameters = '[]'")],
    "prompt_check": [("reserved", "prompt = ''"), ("reserved", "prompt = repeat('x', 20001)")],
    "purge_is_due": [("completed", "deleted_at = now()"), ("completed", "purge_due_at = now()")],
    "purged_is_empty": [
        ("cancelled", f"{_PURGED}, purging_at = now()"),
        ("cancelled", f"{_PURGED}, purging_at = now(), prompt = '', parameters = '{{\"steps\": 1}}'"),
        ("cancelled", f"{_PURGED}, purging_at = now(), prompt = '', outputs = '[\"a.png\"]'"),
        ("cancelled", f"{_PURGED}, purging_at = now(), prompt = '', progress = 'half'"),
    ],
    "purged_was_purging": [("cancelled", f"{_PURGED}, prompt = ''")],
    "purging_is_deleted": [("completed", "purging_at = now()")],
    "quoted_check": [("reserved", "quoted = -1")],
    "remote_id_check": [("reserved", "remote_id = 'a job'")],
    "remote_is_known": [("submitted", "remote_id = NULL"), ("running", "submitted_at = NULL")],
    "retries": [("reserved", "earlier_attempts = -1"), ("reserved", "retries = -1")],
    "retries_are_dated": [("reserved", "retries = 1"), ("reserved", "retried_at = now()")],
    "source_check": [("reserved", "type = 'modify', source = '[]'")],
    "terminal_is_dated": [("reserved", "finished_at = now()"), ("completed", "finished_at = NULL")],
    "terminal_is_settled": [("reserved", "charged = 0"), ("completed", "charged = NULL")],
    "version_check": [("reserved", "version = 0")],
    "wanted_endpoint_is_a_name": [("reserved", "wanted_endpoint = 'a place'")],
}


@pytest.mark.parametrize(
    ("rule", "state", "change"), [(rule, *broken) for rule, changes in RULES.items() for broken in changes]
)
async def test_the_row_is_impossible(draft: Connection, made: UUID, rule: str, state: str, change: str) -> None:
    await put(draft, made, state)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await draft.execute(f"UPDATE generations SET {change} WHERE id = $1", made)  # noqa: S608
    assert refused.value.constraint_name == f"generations_{rule}"


async def test_every_rule_is_broken_here(draft: Connection) -> None:
    rules = await draft.fetch(
        """SELECT substring(conname, 'generations_(.*)') FROM pg_constraint
           WHERE conrelid = 'generations'::regclass AND contype = 'c' ORDER BY 1"""
    )
    assert [row[0] for row in rules] == sorted(RULES)


async def test_a_hold_is_for_one_generation(draft: Connection, made: UUID) -> None:
    other = await reserved(draft, f"user_{uuid4().hex}")
    with pytest.raises(asyncpg.UniqueViolationError, match="generations_hold_id_key"):
        await draft.execute(
            "UPDATE generations SET hold_id = (SELECT hold_id FROM generations WHERE id = $1) WHERE id = $2",
            made,
            other,
        )


async def test_a_reference_of_ones_own_is_for_one_generation(draft: Connection) -> None:
    one, other = f"user_{uuid4().hex}", f"user_{uuid4().hex}"
    for user_id in (one, other):
        await reserved(draft, user_id, client_reference="mine")
    with pytest.raises(asyncpg.UniqueViolationError, match="generations_client_reference"):
        await reserved(draft, one, client_reference="mine")


@pytest.mark.parametrize(("state", "after"), list(product(MOVES, MOVES)))
async def test_a_state_follows_only_from_some(draft: Connection, made: UUID, state: str, after: str) -> None:
    await put(draft, made, state)
    refusal = ""
    try:
        await draft.execute(f"UPDATE generations SET state = '{after}' WHERE id = $1", made)  # noqa: S608
    except asyncpg.PostgresError as refused:
        # What the row lacks in its new state is refused by the rules above.
        refusal = str(refused)
    assert ("does not move" in refusal) == (after not in MOVES[state] | {state})


async def begun_again(conn: Connection) -> dict[str, str]:
    """What a generation that has ended becomes when it begins again."""
    return {
        "state": "'reserved'",
        "charged": "NULL",
        "finished_at": "NULL",
        "error_code": "NULL",
        "due_at": "now()",
        "deadline_at": "now()",
        "retries": "1",
        "retried_at": "now()",
        "hold_id": f"'{await held(conn, 'user_again', uuid4())}'",
    }


@pytest.mark.parametrize("state", ["failed", "cancelled"])
@pytest.mark.parametrize("wrong", ["hold_id = hold_id", "retries = 0", "retries = 2"])
async def test_what_has_ended_begins_again_once_under_a_new_hold(
    draft: Connection, made: UUID, state: str, wrong: str
) -> None:
    await put(draft, made, state)
    again = await begun_again(draft)
    column, _, value = wrong.partition(" = ")
    with pytest.raises(asyncpg.PostgresError, match="begins again under a new hold only"):
        async with draft.transaction():
            await _update(draft, made, {**again, column: value})
    await _update(draft, made, again)


async def test_what_was_charged_never_begins_again(draft: Connection, made: UUID) -> None:
    await put(draft, made, "cancelled")
    await draft.execute("UPDATE generations SET quoted = 1, charged = 1 WHERE id = $1", made)
    again = await begun_again(draft)
    with pytest.raises(asyncpg.PostgresError, match="begins again under a new hold only"):
        await _update(draft, made, again)


async def _update(conn: Connection, generation_id: UUID, values: dict[str, str]) -> None:
    changes = ", ".join(f"{column} = {value}" for column, value in values.items())
    assert await conn.execute(f"UPDATE generations SET {changes} WHERE id = $1", generation_id) == "UPDATE 1"  # noqa: S608


async def test_every_move_and_attempt_is_written_down(draft: Connection, made: UUID) -> None:
    for move in ("state = 'submitting', attempt = 1", "attempt = 2", f"state = 'cancelled', {ENDED}"):
        await draft.execute(
            f"UPDATE generations SET {move}, transition_actor = $2, transition_reason = $2,"  # noqa: S608
            " transition_detail = jsonb_build_object('move', $2::text) WHERE id = $1",
            made,
            move,
        )
    rows = await draft.fetch(
        """SELECT version, from_state::text, to_state::text, actor, detail ->> 'move' AS move, reason
           FROM generation_transitions WHERE generation_id = $1 ORDER BY version""",
        made,
    )
    assert [tuple(row)[:3] for row in rows] == [
        (1, None, "reserved"),
        (2, "reserved", "submitting"),
        (3, "submitting", "submitting"),
        (4, "submitting", "cancelled"),
    ]
    assert all(row["actor"] == row["move"] == row["reason"] for row in rows[1:])
    assert await draft.fetchval("SELECT version FROM generations WHERE id = $1", made) == 4


async def test_a_key_has_characters(draft: Connection, made: UUID) -> None:
    insert = """INSERT INTO idempotency_keys (user_id, operation, key, fingerprint, status, body)
                SELECT user_id, 'submit', $2, sha256(''), 202, '{}' FROM generations WHERE id = $1"""
    await draft.execute(insert, made, "x" * 255)
    for key in ("", "x" * 256):
        with pytest.raises(asyncpg.CheckViolationError, match="idempotency_keys_key_check"):
            async with draft.transaction():
                await draft.execute(insert, made, key)
