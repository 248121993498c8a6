"""The end of a generation: terminal state, money and events in one transaction, once (ledger.md, Behaviour 5)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared import ledger, metrics, queue
from shared.database import Connection
from shared.generations import Generation, State, Type
from shared.pricing import Cost
from worker import streams, transitions
from worker.context import Context, report

Unless = Callable[[Connection], Awaitable[Generation | None]]
"""Asked first, in the transaction of the end: what it returns goes on, and nothing ends."""


async def complete(
    context: Context,
    generation: Generation,
    *,
    outputs: Sequence[Mapping[str, Any]],
    cost: Cost,
    actor: str,
    unless: Unless | None = None,
    now: datetime | None = None,
) -> Generation | None:
    """Charge what was delivered at the `cost` that was agreed, return the rest."""
    charged = cost.for_delivered(len(outputs))
    partial = len(outputs) < generation.batch_size or any(output.get("partial") for output in outputs)
    unkept = sum(output.get("kept") is False for output in outputs)
    async with context.pool.acquire() as connection, connection.transaction():
        going_on = await unless(connection) if unless is not None else None
        if going_on is not None:
            return going_on
        settled = await transitions.record_settled(
            connection,
            generation,
            state=State.COMPLETED,
            charged=charged,
            outputs=outputs,
            error_code=None,
            error_detail=None,
            reason="delivered-partly" if partial else "delivered",
            actor=actor,
            detail={
                "delivered": len(outputs),
                "ordered": generation.batch_size,
                "charged": charged,
                **({"unkept": unkept} if unkept else {}),
            },
            now=now,
        )
        if settled is not None:
            await ledger.capture(connection, hold_id=generation.hold_id, key=_key(generation), amount=charged, now=now)
            await _forget(connection, settled, now=now)
        follow = await _make_room(connection, settled, now=now)
    if settled is not None:
        metrics.OUTPUTS_UNKEPT.inc(unkept)
    await _report(context, settled, follow)
    return settled


async def fail(
    context: Context,
    generation: Generation,
    *,
    code: str,
    detail: str,
    actor: str,
    unless: Unless | None = None,
    now: datetime | None = None,
) -> Generation | None:
    """Nothing was delivered: everything held is returned, and the person is told why."""
    return await _release(
        context,
        generation,
        state=State.FAILED,
        code=code,
        detail=detail,
        reason=code,
        actor=actor,
        unless=unless,
        now=now,
    )


async def cancel(
    context: Context, generation: Generation, *, reason: str, actor: str, now: datetime | None = None
) -> Generation | None:
    """The person changed their mind in time: everything held is returned."""
    return await _release(
        context, generation, state=State.CANCELLED, code=None, detail=None, reason=reason, actor=actor, now=now
    )


async def _release(
    context: Context,
    generation: Generation,
    *,
    state: State,
    code: str | None,
    detail: str | None,
    reason: str,
    actor: str,
    now: datetime | None,
    unless: Unless | None = None,
) -> Generation | None:
    async with context.pool.acquire() as connection, connection.transaction():
        going_on = await unless(connection) if unless is not None else None
        if going_on is not None:
            return going_on
        settled = await transitions.record_settled(
            connection,
            generation,
            state=state,
            charged=0,
            outputs=[],
            error_code=code,
            error_detail=detail,
            reason=reason,
            actor=actor,
            detail={"refunded": generation.quoted},
            now=now,
        )
        if settled is not None:
            await ledger.release(connection, hold_id=generation.hold_id, key=_key(generation), reason=reason, now=now)
            await _forget(connection, settled, now=now)
        follow = await _make_room(connection, settled, now=now)
    await _report(context, settled, follow)
    return settled


async def _forget(connection: Connection, settled: Generation, *, now: datetime | None) -> None:
    if settled.type is Type.TEXT:
        await streams.forget(connection, settled, sold=settled.state is State.COMPLETED, now=now)


def _key(generation: Generation) -> str:
    """Settlement is keyed by the hold, not by attempts: a round ends once, whatever RunPod does twice."""
    return f"settle:{generation.hold_id}"


async def _make_room(connection: Connection, settled: Generation | None, *, now: datetime | None) -> list[Generation]:
    """One of this person's is not on its way any more: the next that was held back joins the line."""
    return [] if settled is None else await transitions.let_in(connection, user_id=settled.user_id, now=now)


async def _report(context: Context, settled: Generation | None, follow: Sequence[Generation]) -> None:
    if settled is None or settled.charged is None:
        return
    metrics.CREDITS.labels("charged").inc(settled.charged)
    metrics.CREDITS.labels("refunded").inc(settled.quoted - settled.charged)
    if settled.execution_ms is not None and settled.endpoint is not None:
        metrics.RUN_SECONDS.labels(settled.endpoint).observe(settled.execution_ms / 1000)
    _judge_estimate(settled)
    await report(context, [settled])
    for generation in follow:
        await queue.ring(context.queue, generation.id, version=generation.version)


def _judge_estimate(settled: Generation) -> None:
    """How what was told first compares with how long it took; of what gave nothing that says nothing."""
    if settled.state is not State.COMPLETED or settled.estimated_seconds is None or settled.finished_at is None:
        return
    took = (settled.finished_at - settled.waits_since).total_seconds()
    metrics.ESTIMATE_ERROR_RATIO.labels(settled.endpoint or "").observe(took / settled.estimated_seconds)
