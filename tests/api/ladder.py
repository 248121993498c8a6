"""Climbs the states of a generation with the worker's own transitions, for tests that start from one of them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from shared import generations, ledger
from shared.database import Connection
from shared.generations import Generation, State, Type
from worker import lease, transitions
from worker.lease import Owner
from worker.transitions import Endpoint, Seat

MINUTE = timedelta(minutes=1)
ENDPOINTS = [Endpoint(type=kind, name=kind.value, endpoint_id=f"ep-{kind.value}") for kind in Type]
TEXT_OUTPUT = {"index": 0, "kind": "text", "media_type": "text/plain", "text": "It blinks."}


async def climb(
    connection: Connection,
    generation_id: UUID,
    to: State,
    *,
    beginning: State = State.SUBMITTING,
    outputs: Sequence[Mapping[str, Any]] = (TEXT_OUTPUT,),
) -> Generation:
    """Move a generation up to `to` along the happy path (or to failed or cancelled from running).

    It is reserved, or just before `beginning`.
    """
    current = await _get(connection, generation_id)
    path = [State.SUBMITTING, State.SUBMITTED, State.RUNNING, State.FINISHING, State.COMPLETED]
    if to in (State.FAILED, State.CANCELLED):
        path = [State.SUBMITTING, State.SUBMITTED, State.RUNNING, to]
    for step in path[path.index(beginning) : path.index(to) + 1]:
        current = await _step(connection, current, step, outputs)
    return current


async def _get(connection: Connection, generation_id: UUID) -> Generation:
    found = await generations.get(connection, generation_id)
    assert found is not None
    return found


async def _step(
    connection: Connection, current: Generation, step: State, outputs: Sequence[Mapping[str, Any]]
) -> Generation:
    moved: Generation | None
    match step:
        case State.SUBMITTING:
            place = next(endpoint for endpoint in ENDPOINTS if endpoint.type is current.type)
            [moved] = await transitions.claim_reserved(
                connection, lease_token=uuid4(), lease=MINUTE, seats=[Seat(id=current.id, place=place)]
            )
        case State.SUBMITTED:
            moved = await transitions.record_submitted(
                connection, current, remote_id=f"job-{current.id}", first_poll=MINUTE, queue_deadline=MINUTE
            )
        case State.RUNNING:
            moved = await transitions.record_running(
                connection,
                await _lease(connection, current, "poll"),
                next_poll=MINUTE,
                run_deadline=MINUTE,
                progress=None,
            )
        case State.FINISHING:
            moved = await transitions.record_finishing(
                connection,
                await _lease(connection, current, "poll"),
                remote_status="COMPLETED",
                body=b"{}",
                delay_ms=1,
                execution_ms=1,
                finish_deadline=MINUTE,
            )
        case _:
            moved = await _settle(connection, current, step, outputs)
    assert moved is not None, step
    assert moved.id == current.id
    return moved


async def _lease(connection: Connection, current: Generation, owner: Owner | Literal["poll"]) -> Generation:
    # What another test left to be heard of would come first.
    await connection.execute(
        "UPDATE generations SET due_at = now() + CASE WHEN id = $1 THEN '-1 day' ELSE '1 hour'::interval END "
        "WHERE id = $1 OR due_at <= now()",
        current.id,
    )
    if owner == "poll":
        places = {current.endpoint_id or "": 1}
        [leased] = await lease.claim_polls(connection, lease_token=uuid4(), lease=MINUTE, places=places)
    else:
        [leased] = await lease.claim_due(connection, owner=owner, lease_token=uuid4(), lease=MINUTE, limit=1)
    return leased


async def _settle(
    connection: Connection, current: Generation, to: State, outputs: Sequence[Mapping[str, Any]]
) -> Generation | None:
    leased = await _lease(connection, current, "finish" if current.state is State.FINISHING else "poll")
    charged = current.quoted if to is State.COMPLETED else 0
    key = f"settle:{current.id}"
    async with connection.transaction():
        if to is State.COMPLETED:
            await ledger.capture(connection, hold_id=current.hold_id, key=key, amount=charged)
        else:
            await ledger.release(connection, hold_id=current.hold_id, key=key, reason="test")
        return await transitions.record_settled(
            connection,
            leased,
            state=to,
            charged=charged,
            outputs=outputs if to is State.COMPLETED else [],
            error_code="model-error" if to is State.FAILED else None,
            error_detail="It broke." if to is State.FAILED else None,
            reason="test",
            actor="test",
            detail={},
        )
