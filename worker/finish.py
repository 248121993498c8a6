"""finishing → completed, failed or cancelled: read the raw answer, keep the outputs, settle. All can run twice."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import structlog

from shared import metrics, sql
from shared.database import UNREACHABLE
from shared.errors import StorageUnavailable
from shared.generations import Generation, Type
from shared.pricing import Cost
from shared.storage import Storage
from worker import lease, media, settle, transitions
from worker.context import Context
from worker.fetch import NotFetched, fetch
from worker.outputs import Item, describe_error
from worker.remote import RemoteJob, RemoteState, read_job
from worker.rounds import side_by_side

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

ACTOR = "worker/finish"
_RETRY_COPY = timedelta(seconds=5)
_RETRY_FAILED = timedelta(seconds=30)
LONGEST_SECONDS = 240
"""How long one round of copying may take; the lease is kept meanwhile, the finish deadline bounds the rounds."""
MAXIMUM_TEXT_CHARACTERS = 200_000
_FAILURES = {
    RemoteState.FAILED: ("model-failed", "The model failed."),
    RemoteState.TIMED_OUT: ("timed-out", "The model did not answer in time."),
    RemoteState.CANCELLED: ("cancelled-remotely", "The model's run was cancelled."),
}


async def claim(context: Context, limit: int) -> list[Generation]:
    """Lease up to `limit` generations whose terminal answer waits to be finished."""
    async with context.pool.acquire() as connection:
        return await transitions.claim_due(
            connection, owner="finish", lease_token=uuid4(), lease=context.settings.lease, limit=limit
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
    async with context.pool.acquire() as connection:
        row = await connection.fetchrow(_SQL["result"], generation.id, generation.hold_id)
    if row is None:
        return None  # a result is deleted only by the settlement that it led to: somebody else was here
    metrics.SETTLE_LAG_SECONDS.observe((datetime.now(UTC) - row["received_at"]).total_seconds())
    job = read_job(row["body"])
    if job.state is RemoteState.CANCELLED and generation.cancel_requested_at is not None:
        return await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
    if job.state is not RemoteState.COMPLETED:
        code, detail = _FAILURES[job.state]
        return await _fail(context, generation, code=code, detail=detail, said=job.error or job.output)
    return await _deliver(context, generation, job, Cost.from_snapshot(row["price"]))


async def _deliver(context: Context, generation: Generation, job: RemoteJob, cost: Cost) -> Generation | None:
    delivery = context.endpoints.pursued(generation).kind.read(generation.type, job.output)
    if not delivery.items:
        if delivery.error is not None or job.error:
            said = delivery.error or job.error
            return await _fail(context, generation, code="model-failed", detail="The model failed.", said=said)
        code = "no-output" if job.output in (None, "", [], {}) else "unreadable-output"
        return await _fail(
            context, generation, code=code, detail="The model gave no result that we can show.", said=None
        )
    try:
        outputs = await _keep(context, generation, delivery.items)
    except media.UnfitMedium as error:
        return await _fail(
            context, generation, code="unfit-output", detail="The model's result cannot be shown.", said=str(error)
        )
    return await settle.complete(context, generation, outputs=outputs, cost=cost, actor=ACTOR)


async def _keep(context: Context, generation: Generation, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Copy every output to our storage: RunPod forgets results, and its addresses expire.

    An item that can never be kept is left out, so that it is not charged; when none is left, the last reason counts.
    More than was ordered is not kept.

    Raises:
        UnfitMedium: no item can ever be kept.
        NotFetched, StorageUnavailable: one cannot be copied just now.
    """
    outputs: list[dict[str, Any]] = []
    unfit: media.UnfitMedium | None = None
    for item in items:
        if len(outputs) == generation.batch_size:
            break
        try:
            outputs.append(await _keep_one(context, generation, item, index=len(outputs)))
        except media.UnfitMedium as error:
            log.warning("output.unfit", generation_id=str(generation.id), reason=str(error))
            unfit = error
    if unfit is not None and not outputs:
        raise unfit
    return outputs


async def _keep_one(context: Context, generation: Generation, item: Item, *, index: int) -> dict[str, Any]:
    if item.text is not None:
        if len(item.text) > MAXIMUM_TEXT_CHARACTERS:
            msg = f"a text of {len(item.text)} characters"
            raise media.UnfitMedium(msg)
        return {"index": index, "kind": "text", "media_type": "text/plain", "text": item.text}
    content = item.content if item.content is not None else await _fetched(context, item.url or "")
    medium = await asyncio.to_thread(media.inspect, content)
    key = Storage.key(generation.id, content=content, extension=medium.extension)
    await context.storage.put(key, content)
    return {
        "index": index,
        "kind": "video" if generation.type is Type.VIDEO else "image",
        "media_type": medium.media_type,
        "key": key,
        "width": medium.width,
        "height": medium.height,
        "bytes": len(content),
    }


async def _fetched(context: Context, url: str) -> bytes:
    try:
        return await fetch(context.outside, url)
    except NotFetched as error:
        if error.again:
            raise
        raise media.UnfitMedium(str(error)) from error


async def _try_again(context: Context, generation: Generation, *, wait: timedelta) -> Generation | None:
    """Due again after a wait; past the finish deadline, given up and refunded."""
    if lease.is_past(context, generation, generation.deadline_at):
        return await settle.fail(
            context, generation, code="outputs-lost", detail="The result could not be kept.", actor=ACTOR
        )
    if generation.lease_token is not None:
        async with context.pool.acquire() as connection:
            waits: Mapping[UUID, tuple[timedelta, str | None]] = {generation.id: (wait, None)}
            await transitions.reschedule(connection, lease_token=generation.lease_token, waits=waits)
    return None


async def _fail(context: Context, generation: Generation, *, code: str, detail: str, said: Any) -> Generation | None:
    """Fail with words for the person; what the model said goes to the log, and its raw answer is kept for ops."""
    if said is not None:
        log.warning("model.failed", generation_id=str(generation.id), code=code, said=describe_error(said))
    return await settle.fail(context, generation, code=code, detail=detail, actor=ACTOR)
