"""Whatever is past its deadline goes back on the path. Every gap in which a process can die ends here."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import asyncpg
import structlog

from shared import ledger, metrics, queue, sql
from shared.generations import Generation, State
from worker import lease, pursuit, settle, streams, transitions
from worker.context import Context, report
from worker.outcomes import Gone, NotSent, Sign
from worker.remote import RemoteJob, RemoteState
from worker.rounds import side_by_side
from worker.stream import is_streamed

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

ACTOR = "worker/sweep"
MAXIMUM_ATTEMPTS = 2
"""How often a generation may be sent in one round when nobody can tell whether RunPod has it (queue.md, Design 4)."""
ORPHAN_LIFETIME = timedelta(hours=24)
"""RunPod drops a job after its ttl, which is far less than a day."""
_ORPHANS = 20
_EXPIRIES = 100
_STRANDED = 100
_PRUNES = ("prune_keys", "prune_changes", "prune_receipts", "prune_results", "prune_answers", "prune_streams")
_PRUNED = 1000


async def claim(context: Context, limit: int) -> list[Generation]:
    """Lease what fell off the path: submitting past lease or grace; reserved but cancelled, late or answered."""
    async with context.pool.acquire() as connection:
        return await lease.claim_due(
            connection, owner="sweep", lease_token=uuid4(), lease=context.settings.lease, limit=limit
        )


async def mend_all(context: Context, claimed: Sequence[Generation]) -> None:
    """Put each on the path again."""
    await side_by_side(claimed, partial(mend, context))


async def sweep_once(context: Context, *, limit: int = 100) -> int:
    """One round of everything; returns how many generations were claimed."""
    claimed = await claim(context, limit)
    await mend_all(context, claimed)
    await let_in_stranded(context)
    await cancel_orphans(context)
    await expire_credits(context)
    return len(claimed)


async def mend(context: Context, generation: Generation) -> None:
    """Decide where a generation that fell off the path goes on."""
    if generation.heard_attempt is not None and await _adopt(context, generation):
        return
    if generation.state is State.RESERVED:
        await _end_reserved(context, generation)
        return
    async with context.pool.acquire() as connection:
        outcome = await connection.fetchval(_SQL["attempt_outcome"], generation.id, generation.attempt)
        if outcome == "calling":
            _count("waited-for-webhook")
            await transitions.await_webhook(
                connection,
                generation,
                grace=context.settings.submit_grace,
                detail="the worker that called RunPod did not live to tell",
            )
            return
    await _end_unknown(context, generation)


async def _adopt(context: Context, generation: Generation) -> bool:
    patience = context.endpoints.pursued(generation).queue_deadline
    async with context.pool.acquire() as connection, connection.transaction():
        adopted = await pursuit.adopt(connection, generation, queue_deadline=patience)
        if adopted is not None and is_streamed(adopted, context.endpoints.pursued(adopted)):
            await streams.open_stream(connection, adopted)
    if adopted is None:
        return False
    _count("adopted")
    await report(context, [adopted])
    return True


async def _end_reserved(context: Context, generation: Generation) -> None:
    if generation.cancel_requested_at is not None:
        _count("cancelled")
        await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
    elif lease.is_past(context, generation, generation.deadline_at) and generation.held_back:
        _count("held-back")
        await settle.fail(
            context,
            generation,
            code="held-back",
            detail="As many of yours as your plan allows were on their way all the time.",
            actor=ACTOR,
        )
    elif lease.is_past(context, generation, generation.deadline_at):
        _count("not-sent")
        await settle.fail(context, generation, code="not-sent", detail="RunPod could not take it in time.", actor=ACTOR)


async def _end_unknown(context: Context, generation: Generation) -> None:
    """The grace is over and no webhook came for an attempt that may or may not run there."""
    if generation.cancel_requested_at is not None:
        _count("cancelled")
        await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
        return
    async with context.pool.acquire() as connection:
        sent = await connection.fetchval(_SQL["attempts_maybe_sent"], generation.id)
        if sent < MAXIMUM_ATTEMPTS:
            _count("sent-again")
            moved = await transitions.return_to_reserved(
                connection,
                generation,
                outcome="unknown",
                reason="submission-unknown",
                wait=context.settings.idle * 0,
                actor=ACTOR,
            )
            await report(context, [moved])
            return
    _count("gave-up")
    await settle.fail(
        context, generation, code="submission-unknown", detail="RunPod did not confirm that it took this.", actor=ACTOR
    )


async def let_in_stranded(context: Context) -> int:
    """Let in whom their plan allows more: its limit was raised, or they were passed over; returns how many.

    At the end of one that was ahead somebody had their row locked.
    """
    let_in: list[Generation] = []
    async with context.pool.acquire() as connection:
        for row in await connection.fetch(_SQL["stranded"], _STRANDED):
            async with connection.transaction():
                await connection.execute(_SQL["lock_account"], row["user_id"])
                let_in += await transitions.let_in(connection, user_id=row["user_id"])
    if let_in:
        _count("let-in", len(let_in))
        for generation in let_in:
            await queue.ring(context.queue, generation.id, version=generation.version)
    return len(let_in)


async def rest_lines(context: Context) -> None:
    """Of each type that nobody waits for, have the line's clock catch up with all who used it."""
    async with context.pool.acquire() as connection:
        await connection.execute(_SQL["rest_lines"])


async def cancel_orphans(context: Context) -> int:
    """Tell RunPod to stop attempts that lost; their cost is ours and stays on record. Returns how many were told.

    Each is asked for by one worker at a time, ever more seldom, until RunPod has dropped it by itself.
    """
    async with context.pool.acquire() as connection:
        orphans = await connection.fetch(_SQL["claim_orphans"], _ORPHANS, ORPHAN_LIFETIME)
        wanted = Counter(orphan["endpoint_id"] for orphan in orphans)
        granted = Counter(await context.allowances.take(connection, "cancel", wanted))

    limited: dict[str, timedelta] = {}

    async def cancel(orphan: asyncpg.Record) -> tuple[UUID, int, bool] | None:
        if granted[orphan["endpoint_id"]] <= 0:
            return None  # it comes due again
        granted[orphan["endpoint_id"]] -= 1
        answer = await context.runpod.cancel(orphan["endpoint_id"], orphan["remote_id"])
        if isinstance(answer, NotSent) and answer.sign is Sign.LIMITED:
            limited[orphan["endpoint_id"]] = max(answer.wait, limited.get(orphan["endpoint_id"], answer.wait))
        # a 404 proves nothing while RunPod may have the job: it may show up yet, and run
        ttl = context.endpoints.ttl(orphan["endpoint_id"])
        settled = (isinstance(answer, RemoteJob) and answer.state.terminal) or (
            isinstance(answer, Gone) and ttl is not None and orphan["age"] >= ttl
        )
        completed = isinstance(answer, RemoteJob) and answer.state is RemoteState.COMPLETED
        return (orphan["generation_id"], orphan["attempt"], completed) if settled else None

    told = [orphan for orphan in await side_by_side(orphans, cancel) if orphan is not None]
    if told or limited:
        _count("orphan-cancelled", len(told))
        async with context.pool.acquire() as connection:
            await context.allowances.slow_down(connection, "cancel", limited)
            if told:
                await connection.execute(_SQL["orphans_told"], *map(list, zip(*told, strict=True)))
    return len(told)


async def expire_credits(context: Context) -> None:
    """Write down what the clock has already made true: expired buckets and holds."""
    async with context.pool.acquire() as connection:
        await ledger.expire_due(connection, limit=_EXPIRIES)


async def prune(context: Context) -> None:
    """Forget chunks a day after the end, keys and what breakers did after 30 days and the rest after 90."""
    for statement in _PRUNES:
        pruned = _PRUNED
        while pruned == _PRUNED:
            async with context.pool.acquire() as connection:
                pruned = int((await connection.execute(_SQL[statement], _PRUNED)).split()[-1])


def _count(action: str, times: int = 1) -> None:
    metrics.SWEEP_ACTIONS.labels(action).inc(times)
