"""finishing → completed, failed or cancelled: read the raw answer, keep the outputs, settle. All can run twice.

Or back to submitted, when nothing comes of it and another attempt may have a result.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID, uuid4

import structlog

from shared import metrics, sql
from shared.database import UNREACHABLE
from shared.errors import StorageUnavailable
from shared.generations import Generation
from shared.pricing import Cost
from worker import attempts, lease, media, settle, streamed
from worker.context import Context
from worker.fetch import NotFetched
from worker.keep import keep, refer, text_output
from worker.memory import COPIES_OF_ANSWER
from worker.outputs import Delivery
from worker.remote import RemoteJob, RemoteState, read_job
from worker.rounds import side_by_side

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

ACTOR = "worker/finish"
_RETRY_COPY = timedelta(seconds=5)
_RETRY_DRAIN = timedelta(seconds=1)
"""The end of the stream makes it due sooner."""
_RETRY_FAILED = timedelta(seconds=30)
LONGEST_SECONDS = 240
"""How long one round of copying may take; the lease is kept meanwhile, the finish deadline bounds the rounds."""
_FAILURES = {
    RemoteState.FAILED: ("model-failed", "The model failed."),
    RemoteState.TIMED_OUT: ("timed-out", "The model did not answer in time."),
    RemoteState.CANCELLED: ("cancelled-remotely", "The model's run was cancelled."),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What RunPod answered, when, and the price that was agreed."""

    job: RemoteJob
    cost: Cost
    received_at: datetime


async def claim(context: Context, limit: int, *, owner: Literal["finish", "texts"] = "finish") -> list[Generation]:
    """Lease up to `limit` generations whose terminal answer waits to be finished; of `texts` only such."""
    async with context.pool.acquire() as connection:
        return await lease.claim_due(
            connection, owner=owner, lease_token=uuid4(), lease=context.settings.lease, limit=limit
        )


async def finish_all(context: Context, claimed: Sequence[Generation]) -> None:
    """Finish what was claimed, side by side."""
    await side_by_side(claimed, partial(finish, context))


async def finish_once(context: Context, *, limit: int = 20) -> int:
    """One round; returns how many were claimed."""
    claimed = await claim(context, limit)
    await finish_all(context, claimed)
    return len(claimed)


async def finish(context: Context, generation: Generation) -> Generation | None:
    """Bring one leased generation to its end. Whatever goes wrong with it, its finish deadline ends it."""
    try:
        async with asyncio.timeout(LONGEST_SECONDS), lease.kept(context, generation):
            return await _finish(context, generation)
    except (StorageUnavailable, NotFetched, TimeoutError) as error:
        log.warning("output.pending", generation_id=str(generation.id), reason=str(error) or type(error).__name__)
        return await _try_again(context, generation, wait=_RETRY_COPY)
    except UNREACHABLE:
        raise
    except Exception:
        metrics.LOOP_FAILURES.labels("finish-item").inc()
        log.exception("output.failed", generation_id=str(generation.id))
        return await _try_again(context, generation, wait=_RETRY_FAILED)


async def _finish(context: Context, generation: Generation) -> Generation | None:
    async with _answer(context, generation) as answer:
        if answer is None:
            return None  # a result is deleted only by the settlement that it led to: somebody else was here
        metrics.SETTLE_LAG_SECONDS.observe((datetime.now(UTC) - answer.received_at).total_seconds())
        job = answer.job
        verdict = await streamed.judge(context, generation, job)
        if verdict is not None:
            return await _end_text(context, generation, verdict, answer.cost)
        if job.state is RemoteState.CANCELLED and generation.cancel_requested_at is not None:
            return await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
        if job.state is not RemoteState.COMPLETED:
            code, detail = _FAILURES[job.state]
            return await _fail(context, generation, code=code, detail=detail)
        return await _deliver(context, generation, job, answer.cost)


@asynccontextmanager
async def _answer(context: Context, generation: Generation) -> AsyncIterator[Answer | None]:
    """RunPod's answer, while there is memory for it; None when there is none any more."""
    async with context.pool.acquire() as connection:
        size = await connection.fetchval(_SQL["result_size"], generation.id)
    async with context.memory.answers.hold(COPIES_OF_ANSWER * (size or 0)):
        async with context.pool.acquire() as connection:
            row = await connection.fetchrow(_SQL["result"], generation.id, generation.hold_id)
        yield Answer(read_job(row["body"]), Cost.from_snapshot(row["price"]), row["received_at"]) if row else None


def _read(context: Context, generation: Generation, job: RemoteJob) -> Delivery:
    return context.endpoints.pursued(generation).kind.read(generation.type, job.output)


async def _end_text(
    context: Context, generation: Generation, verdict: streamed.Verdict, cost: Cost
) -> Generation | None:
    if isinstance(verdict, streamed.Awaited):
        return await _try_again(context, generation, wait=_RETRY_DRAIN)
    if isinstance(verdict, streamed.Broken):
        return await _fail(context, generation, code=verdict.code, detail=verdict.detail)
    outputs = [text_output(verdict.text, index=0, partial=verdict.partial)]
    if verdict.partial:  # the whole is worth more
        return await attempts.sell_part(
            context, generation, outputs=outputs, cost=cost, reason="broken-off", actor=ACTOR
        )
    return await settle.complete(context, generation, outputs=outputs, cost=cost, actor=ACTOR)


async def _deliver(context: Context, generation: Generation, job: RemoteJob, cost: Cost) -> Generation | None:
    delivery = _read(context, generation, job)
    if not delivery.items:
        if delivery.error is not None or job.error:
            return await _fail(context, generation, code="model-failed", detail="The model failed.")
        code = "no-output" if delivery.empty else "unreadable-output"
        return await _fail(context, generation, code=code, detail="The model gave no result that we can show.")
    last = lease.is_past(context, generation, generation.deadline_at)
    try:
        outputs = await keep(context, generation, delivery.items, last=last)
    except media.UnfitMedium as error:
        return await _fail(
            context, generation, code="unfit-output", detail="The model's result cannot be shown.", why=str(error)
        )
    if not outputs:  # none could be copied in time, none has an address of its own to be referred to
        return await _lost(context, generation)
    return await settle.complete(context, generation, outputs=outputs, cost=cost, actor=ACTOR)


async def _try_again(context: Context, generation: Generation, *, wait: timedelta) -> Generation | None:
    """Due again after a wait; past the finish deadline, delivered by reference or given up and refunded, by policy."""
    if lease.is_past(context, generation, generation.deadline_at):
        return await _refer(context, generation) if _refers(context) else await _lost(context, generation)
    if generation.lease_token is not None:
        async with context.pool.acquire() as connection:
            waits: Mapping[UUID, tuple[timedelta, str | None]] = {generation.id: (wait, None)}
            await lease.reschedule(connection, lease_token=generation.lease_token, waits=waits)
    return None


def _refers(context: Context) -> bool:
    return context.settings.unkept_outputs == "reference"


async def _refer(context: Context, generation: Generation) -> Generation | None:
    """Deliver what has an address of its own without copying it; what has none is not charged."""
    async with _answer(context, generation) as answer:
        if answer is None:
            return None
        outputs: Sequence[Mapping[str, Any]] = []
        if answer.job.state is RemoteState.COMPLETED:
            try:
                outputs = refer(generation, _read(context, generation, answer.job).items)
            except Exception:
                metrics.LOOP_FAILURES.labels("finish-item").inc()
                log.exception("output.failed", generation_id=str(generation.id))
        if not outputs:
            return await _lost(context, generation)
        return await settle.complete(context, generation, outputs=outputs, cost=answer.cost, actor=ACTOR)


async def _lost(context: Context, generation: Generation) -> Generation | None:
    return await attempts.fail(
        context, generation, code="outputs-lost", detail="The result could not be kept.", actor=ACTOR
    )


async def _fail(
    context: Context, generation: Generation, *, code: str, detail: str, why: str | None = None
) -> Generation | None:
    """Fail with words for the person, and our own for the log.

    What the model said may repeat the prompt, and a log outlives what its person deletes. The raw answer is for ops.
    """
    log.warning("model.failed", generation_id=str(generation.id), code=code, why=why)
    return await attempts.fail(context, generation, code=code, detail=detail, actor=ACTOR)
