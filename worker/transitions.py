"""Every way the worker moves a generation: one guarded statement each, in `transitions.sql` (and `pursuit.sql`).

The table "Life of a generation" is in `shared/generations.py`. Every statement compares state, version and lease token;
None means that somebody else moved the generation, which is not an error: stop quietly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared import sql
from shared.database import Connection
from shared.generations import (
    CREDIT_IN_LINE,
    LONGEST_IN_LINE_CREDITS,
    RESERVED_DEADLINE,
    Generation,
    State,
    Type,
    read_all,
    read_one,
)

_SQL = sql.load(__file__)

LET_IN_LIMIT = 100
"""How many may join the lines at once when a plan's limit was raised; the sweep goes on with the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a type of generation is sent: the profile's name and RunPod's endpoint id."""

    type: Type
    name: str
    endpoint_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who goes where; `ahead`: it will wait there for the job in hand."""

    id: UUID
    place: Endpoint
    ahead: bool = False


async def claim_reserved(
    connection: Connection,
    *,
    lease_token: UUID,
    lease: timedelta,
    seats: Sequence[Seat],
    now: datetime | None = None,
) -> list[Generation]:
    """reserved → submitting, each to its endpoint, with a new attempt on record. Who they are: `worker/line.py`."""
    told = [{"id": str(seat.id), "name": seat.place.name, "endpoint_id": seat.place.endpoint_id} for seat in seats]
    price = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS)
    return await read_all(connection, _SQL["claim_reserved"], lease_token, lease, told, now, *price)


async def record_submitted(
    connection: Connection,
    generation: Generation,
    *,
    remote_id: str,
    first_poll: timedelta,
    queue_deadline: timedelta,
    now: datetime | None = None,
) -> Generation | None:
    """submitting → submitted. Due at once when its webhook was here first, or the person cancelled meanwhile."""
    return await read_one(
        connection,
        _SQL["record_submitted"],
        generation.id,
        generation.version,
        generation.lease_token,
        remote_id,
        first_poll,
        queue_deadline,
        now,
    )


async def return_to_reserved(
    connection: Connection,
    generation: Generation,
    *,
    outcome: str,
    reason: str,
    wait: timedelta,
    actor: str,
    now: datetime | None = None,
) -> Generation | None:
    """submitting → reserved, to be sent again after `wait`; `outcome` is the attempt's: not_sent or unknown.

    It keeps its place in the line, unless the line's clock has passed it: then it joins behind its person's own.
    """
    return await read_one(
        connection,
        _SQL["return_to_reserved"],
        generation.id,
        generation.version,
        generation.lease_token,
        outcome,
        reason,
        wait,
        actor,
        now,
        CREDIT_IN_LINE,
        LONGEST_IN_LINE_CREDITS,
    )


async def record_recalled(
    connection: Connection,
    generation: Generation,
    *,
    still_there: bool,
    deadline: timedelta,
    actor: str,
    now: datetime | None = None,
) -> Generation | None:
    """submitted → reserved: cancelled at RunPod before it began, for somebody who stands before it.

    `still_there`: it may run there all the same, and is cancelled once more. None when it is not ours any more.
    """
    return await read_one(
        connection,
        _SQL["record_recalled"],
        generation.id,
        generation.version,
        generation.lease_token,
        deadline,
        actor,
        now,
        still_there,
    )


async def await_webhook(
    connection: Connection, generation: Generation, *, grace: timedelta, detail: str, now: datetime | None = None
) -> Generation | None:
    """Nobody can tell whether RunPod has this attempt: stay submitting for a grace, without a lease."""
    return await read_one(
        connection,
        _SQL["await_webhook"],
        generation.id,
        generation.version,
        generation.lease_token,
        grace,
        detail,
        now,
    )


async def refuse_attempt(connection: Connection, generation: Generation, *, detail: str) -> None:
    """Keep for ops what RunPod said when it refused an attempt."""
    await connection.execute(_SQL["refuse_attempt"], generation.id, generation.attempt, detail)


async def record_running(
    connection: Connection,
    generation: Generation,
    *,
    next_poll: timedelta,
    run_deadline: timedelta,
    progress: str | None,
    now: datetime | None = None,
) -> Generation | None:
    """submitted → running: RunPod says that a worker holds the job."""
    return await read_one(
        connection,
        _SQL["record_running"],
        generation.id,
        generation.version,
        generation.lease_token,
        next_poll,
        run_deadline,
        progress,
        now,
    )


async def record_ran(
    connection: Connection, generation: Generation, *, execution_ms: int, now: datetime | None = None
) -> Generation | None:
    """submitted → running, seen only after it ended; the lease is kept for `record_finishing`, which follows."""
    return await read_one(
        connection, _SQL["record_ran"], generation.id, generation.version, generation.lease_token, execution_ms, now
    )


async def record_finishing(
    connection: Connection,
    generation: Generation,
    *,
    remote_status: str,
    body: bytes,
    delay_ms: int | None,
    execution_ms: int | None,
    finish_deadline: timedelta,
    now: datetime | None = None,
) -> Generation | None:
    """submitted or running → finishing, with RunPod's terminal answer kept as it came."""
    return await read_one(
        connection,
        _SQL["record_finishing"],
        generation.id,
        generation.version,
        generation.lease_token,
        remote_status,
        body,
        delay_ms,
        execution_ms,
        finish_deadline,
        now,
    )


async def record_settled(
    connection: Connection,
    generation: Generation,
    *,
    state: State,
    charged: int,
    outputs: Sequence[Mapping[str, Any]],
    error_code: str | None,
    error_detail: str | None,
    reason: str,
    actor: str,
    detail: Mapping[str, Any],
    now: datetime | None = None,
) -> Generation | None:
    """Any open state → completed, failed or cancelled. Only `worker/settle.py` calls this, with the money.

    What was heard of while it was being sent does not fail: the sweep adopts it.
    """
    return await read_one(
        connection,
        _SQL["record_settled"],
        generation.id,
        generation.version,
        generation.lease_token,
        state,
        charged,
        outputs,
        error_code,
        error_detail,
        reason,
        actor,
        detail,
        now,
    )


async def let_in(
    connection: Connection, *, user_id: str, limit: int = LET_IN_LIMIT, now: datetime | None = None
) -> list[Generation]:
    """Let the next held back generations of a person into their lines, as far as their plan has room.

    In the transaction that ended one of theirs, after the money: the account is locked by it.
    """
    return await read_all(
        connection, _SQL["let_in"], user_id, limit, now, CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, RESERVED_DEADLINE
    )
