"""reserved → submitting → submitted: claim in fair order, commit the attempt, call RunPod, record what it said."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import stamina
import structlog

from shared import generations, metrics
from shared.database import UNREACHABLE
from shared.errors import NotFound, StorageUnavailable
from shared.generations import Generation, State
from shared.webhooks import webhook_url
from worker import breaker, lease, line, pursuit, settle, streams, transitions
from worker.context import Context, report
from worker.endpoints import Profile
from worker.kinds.order import Order, Source, TooLargeToSend
from worker.memory import COPIES_OF_SOURCE, PATIENCE_SECONDS, NoRoom
from worker.outcomes import NotSent, Refused, Sign, Submission
from worker.remote import RemoteJob
from worker.rounds import side_by_side
from worker.runpod import MAXIMUM_REQUEST_BYTES
from worker.stream import is_streamed

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ACTOR = "worker/submit"
# Together well inside the lease of 30 s.
RECORD_ATTEMPTS = 6
RECORD_WAIT_SECONDS = 2
FRESH = timedelta(milliseconds=50)
"""A token that was taken so lately counts: what a bucket leaves of the allowance makes up for that, and for the way."""
_RETRY_ALLOWANCE = timedelta(milliseconds=200)
_RETRY_SOURCE = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(seconds=30)


async def claim(context: Context, limit: int) -> list[Generation]:
    """Take up to `limit` reserved generations; each is `submitting` now, with its attempt on record."""
    token = uuid4()
    async with context.pool.acquire() as connection:
        deal = await context.router.places(connection, limit, token=token, lease=context.settings.lease)
        if not deal.room:
            return []
        here = [profile.endpoint for profile in context.endpoints]
        claimed = await line.claim(connection, deal, endpoints=here, lease=context.settings.lease)
        changes = await context.router.settle(connection, deal, claimed)
    breaker.announce(changes)
    await report(context, claimed)
    return claimed


async def send_all(context: Context, claimed: Sequence[Generation]) -> None:
    """Send what was claimed, side by side."""
    await side_by_side(claimed, partial(send, context))


async def submit_once(context: Context, *, limit: int = 50) -> int:
    """One round; returns how many were claimed."""
    claimed = await claim(context, limit)
    await send_all(context, claimed)
    return len(claimed)


async def send(context: Context, generation: Generation) -> Generation | None:
    """Call RunPod for one claimed generation and record the outcome. No connection is held during the call."""
    profile = context.endpoints.pursued(generation)
    if generation.wanted_endpoint not in (None, generation.endpoint):
        detail = f"There is no endpoint {generation.wanted_endpoint} here for this."
        return await settle.fail(context, generation, code="endpoint-unknown", detail=detail, actor=ACTOR)
    try:
        outcome = await _call(context, generation, profile)
    except NotFound as error:
        return await settle.fail(context, generation, code="source-lost", detail=error.detail, actor=ACTOR)
    if outcome is None:
        return None
    # RunPod has answered: a Postgres that is away for a moment must not make this an attempt that nobody can tell of.
    async for attempt in stamina.retry_context(on=UNREACHABLE, attempts=RECORD_ATTEMPTS, wait_max=RECORD_WAIT_SECONDS):
        with attempt:
            return await _record(context, generation, profile, outcome)
    return None


async def _may_still_be_sent(context: Context, generation: Generation, profile: Profile) -> bool | NotSent:
    """Whether nobody else has it by now, and the allowance has room at this moment: reading the source may take long.

    Who lost the lease sends nothing: the person may have been told that it was cancelled. And who waited must have a
    token that still counts, or it would come on top of what others send.
    """
    async with context.pool.acquire() as connection:
        age = await lease.about_to_send(connection, generation, lease=context.settings.lease, fresh=FRESH)
        if age is None:
            return False
        if age <= FRESH:
            return True
        endpoint_id = profile.endpoint.endpoint_id
        granted = await context.allowances.take(connection, "run", {endpoint_id: 1}, held=age)
    return bool(granted.get(endpoint_id)) or NotSent("allowance-used", _RETRY_ALLOWANCE)


async def _call(context: Context, generation: Generation, profile: Profile) -> Submission | None:
    """POST /run, with the picture that it starts from while there is memory for it; None when it is another's by now.

    Raises:
        NotFound: the picture is gone.
    """
    url = webhook_url(context.webhook_signer, context.settings.public_url, generation.id, attempt=generation.attempt)
    try:
        async with _source(context, generation) as source:
            admitted = await _may_still_be_sent(context, generation, profile)
            if admitted is not True:
                return admitted or None
            remote_input = profile.kind.remote_input(Order(generation, source))
            return await context.runpod.run(
                profile.endpoint.endpoint_id, {"input": remote_input, "webhook": url, "policy": profile.policy()}
            )
    except StorageUnavailable:
        return NotSent("storage-unavailable", _RETRY_SOURCE)
    except NoRoom:
        return NotSent("own-memory-full", _RETRY_SOURCE)
    except TooLargeToSend as error:
        return Refused(str(error))


async def _record(context: Context, generation: Generation, profile: Profile, outcome: Submission) -> Generation | None:
    """Write down what RunPod said to a /run; running it again after a lost reply changes nothing."""
    if isinstance(outcome, Refused):
        return await _refused(context, generation, outcome)
    moved: Generation | None = None
    async with context.pool.acquire() as connection, connection.transaction():
        change = await context.router.heed(connection, generation, outcome)
        if isinstance(outcome, RemoteJob):
            history = context.pace.history(profile.endpoint.endpoint_id, expected=profile.expected_run)
            moved = await transitions.record_submitted(
                connection,
                generation,
                remote_id=outcome.id,
                first_poll=context.pace.next_poll(history, age=timedelta(0), ran=None),
                queue_deadline=profile.queue_deadline,
            )
            if moved is None:
                await pursuit.hear_late(connection, generation, remote_id=outcome.id)
            elif is_streamed(moved, profile):
                await streams.open_stream(connection, moved)
        elif isinstance(outcome, NotSent):
            wait = _patience(outcome.wait, generation.attempt)
            if outcome.sign is not Sign.NONE:
                wait = await context.router.patience(connection, generation, wait)
            moved = await transitions.return_to_reserved(
                connection, generation, outcome="not_sent", reason=outcome.reason, wait=wait, actor=ACTOR
            )
        else:
            log.warning("runpod.unknown", generation_id=str(generation.id), reason=outcome.reason)
            await transitions.await_webhook(
                connection, generation, grace=context.settings.submit_grace, detail=outcome.detail
            )
    breaker.announce([change])
    recalled_before = (generation.recalled_attempt or 0) > generation.earlier_attempts  # it was counted then
    if isinstance(outcome, RemoteJob) and profile.expected_cost_usd is not None and not recalled_before:
        metrics.EXPECTED_COST_USD.labels(profile.endpoint.name).inc(float(profile.expected_cost_usd))
    if moved is not None and moved.state is State.SUBMITTED and moved.submitted_at is not None and not recalled_before:
        metrics.WAIT_SECONDS.observe((moved.submitted_at - moved.waits_since).total_seconds())
    await report(context, [moved])
    return moved


async def _refused(context: Context, generation: Generation, outcome: Refused) -> Generation | None:
    """RunPod will never take it. Its words are for ops: they may repeat what we sent."""
    log.warning("runpod.refused", generation_id=str(generation.id), reason=outcome.reason)
    async with context.pool.acquire() as connection:
        await transitions.refuse_attempt(connection, generation, detail=outcome.detail)
        change = await context.router.heed(connection, generation, outcome)
    breaker.announce([change])
    return await settle.fail(
        context, generation, code="refused", detail="RunPod does not take this request.", actor=ACTOR
    )


def _patience(wait: timedelta, attempt: int) -> timedelta:
    """Wait twice as long after each attempt, up to half a minute; never less than RunPod asked for."""
    doubled: timedelta = wait * 2 ** min(attempt - 1, 5)
    return max(wait, min(doubled, _LONGEST_RETRY))


@asynccontextmanager
async def _source(context: Context, generation: Generation) -> AsyncIterator[Source | None]:
    """The image that a modify starts from: one of the person's own outputs. What fits into no request is not read.

    Raises:
        NotFound: the generation or its output is gone.
        NoRoom: others have the memory.
    """
    if generation.source is None:
        yield None
        return
    output = await _origin(context, generation)
    size, address = await context.storage.size(output["key"]), context.storage.sign(output)
    if size > MAXIMUM_REQUEST_BYTES:
        yield Source(output["media_type"], None, address)
        return
    async with context.memory.answers.hold(COPIES_OF_SOURCE * size, patience=PATIENCE_SECONDS):
        yield Source(output["media_type"], await context.storage.read(output["key"]), address)


async def _origin(context: Context, generation: Generation) -> Mapping[str, Any]:
    """The output that a modify starts from."""
    wanted = generation.source or {}
    async with context.pool.acquire() as connection:  # also when it was deleted since: the order stands
        origin = await generations.get(connection, wanted["generation_id"])
    for output in origin.outputs if origin and origin.user_id == generation.user_id else ():
        if output["index"] == wanted["index"] and "key" in output:
            return output
    raise NotFound("The image to modify is not there any more.")
