"""Jobs that should end although RunPod still has them: cancelled there, and settled here with nothing charged."""

from datetime import timedelta

from shared.generations import Generation, State
from worker import attempts, settle, streamed
from worker.context import Context
from worker.lease import is_past
from worker.outcomes import Gone, NotSent, Reading, Sign, Unknown
from worker.readings import ACTOR, SILENCE, Wait, record_end
from worker.remote import RemoteJob, RemoteState

CANCEL_GRACE = timedelta(seconds=60)
"""How long RunPod may fail to answer a cancel before the person is refunded all the same; the sweep goes on asking."""
_RETRY_CANCEL = timedelta(seconds=1)


def is_called_for(context: Context, generation: Generation, reading: Reading) -> bool:
    """Whether a job that has not ended there should: the person asked, or its deadline passed.

    While RunPod does not say how it stands, it may have completed (after an outage of ours, say): only a silence as
    long as RunPod keeps results makes the deadline count.
    """
    if generation.cancel_requested_at is not None:
        return True
    silent = isinstance(reading, NotSent | Unknown)
    return is_past(context, generation, generation.deadline_at, by=SILENCE if silent else timedelta(0))


async def stop(context: Context, generation: Generation, reading: Reading) -> Wait | Generation | None:
    """Cancel a job at RunPod, because the person asked or its deadline passed; then settle with nothing charged.

    A job that /cancel calls completed has a result, though /status may not know it yet: waited for as long as RunPod
    keeps one.
    """
    answer: Reading = reading
    if not isinstance(reading, Gone):
        answer = await cancel(context, generation)
    overdue = _is_overdue(context, generation, by=CANCEL_GRACE)
    if isinstance(answer, RemoteJob) and answer.state is RemoteState.COMPLETED:
        if not _is_overdue(context, generation, by=SILENCE):
            return Wait(_RETRY_CANCEL if overdue else timedelta(0))  # it ended while we asked: read the result
    elif isinstance(answer, NotSent | Unknown) and not overdue:
        return Wait(_RETRY_CANCEL)
    if generation.cancel_requested_at is not None:
        if isinstance(answer, RemoteJob) and answer.state.terminal and streamed.sells_broken(context, generation):
            # finish knows what came of it, and the price
            return await record_end(context, generation, answer, now=None)
        return await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
    queued = generation.state is State.SUBMITTED
    return await attempts.fail(
        context,
        generation,
        code="queue-deadline" if queued else "run-deadline",
        detail="No machine was free in time." if queued else "The model took longer than it may.",
        actor=ACTOR,
        still_there=True,
    )


async def cancel(context: Context, generation: Generation) -> Reading:
    """Cancel the pursued attempt's job. Cancels are few, and each ends in a transition: tokens are taken one by one."""
    endpoint_id = generation.endpoint_id or ""
    async with context.pool.acquire() as connection:
        granted = await context.allowances.take(connection, "cancel", {endpoint_id: 1})
    if not granted.get(endpoint_id):
        return NotSent("own-rate-limit", _RETRY_CANCEL)
    answer = await context.runpod.cancel(endpoint_id, generation.remote_id or "")
    if isinstance(answer, NotSent) and answer.sign is Sign.LIMITED:
        async with context.pool.acquire() as connection:
            await context.allowances.slow_down(connection, "cancel", {endpoint_id: answer.wait})
    return answer


def _is_overdue(context: Context, generation: Generation, *, by: timedelta) -> bool:
    return is_past(context, generation, generation.cancel_requested_at or generation.deadline_at, by=by)
