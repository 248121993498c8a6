"""What RunPod says of a job, written down: it waits, it runs, it has ended, or its result is out of our reach."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog

from shared.generations import Generation, State
from worker import attempts, health, transitions
from worker.context import Context, report
from worker.lease import claimed_at, is_past
from worker.outcomes import Gone, NotSent, Reading, Sign, TooLarge, Unknown
from worker.remote import RemoteJob, RemoteState

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ACTOR = "worker/poll"
COLD_START = timedelta(minutes=15)
"""How long RunPod may not know a job while its machines only start: they pull the image."""
SILENCE = timedelta(minutes=30)
"""How long RunPod keeps a result (runpod.md 1.3); after so much silence past a deadline nothing is waited for."""
_RETRY_UNKNOWN = timedelta(seconds=2)
_SLOW = timedelta(seconds=15)
"""How seldom a job is asked about, at most, while its endpoint's breaker is open, or while two attempts take turns. A
webhook hurries it all the same."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to write but when to ask again, and what the handler reported last.

    `limited`: RunPod said 429 to the question.
    """

    after: timedelta
    progress: str | None = None
    limited: bool = False


async def apply_remote_status(
    context: Context, generation: Generation, reading: Reading, *, now: datetime | None = None
) -> Wait | Generation | None:
    """What RunPod says of a job, written down. Terminal never regresses: the transition is guarded."""
    slow = _SLOW if context.router.open(generation.endpoint_id) else timedelta(0)
    if isinstance(reading, NotSent):
        return Wait(max(reading.wait, slow), limited=reading.sign is Sign.LIMITED)
    if isinstance(reading, Unknown):
        log.warning("runpod.unknown", generation_id=str(generation.id), reason=reading.reason)
        return Wait(max(_RETRY_UNKNOWN, slow))
    if isinstance(reading, Gone | TooLarge):
        return await _out_of_reach(context, generation, reading)
    if reading.state.terminal:
        return await record_end(context, generation, reading, now=now)
    profile = context.endpoints.pursued(generation)
    history = context.pace.history(generation.endpoint_id or "", expected=profile.expected_run)
    ran = _ran(context, generation, reading)
    after = max(slow, context.pace.next_poll(history, age=_age(context, generation), ran=ran))
    if reading.state is RemoteState.IN_PROGRESS and generation.state is State.SUBMITTED:
        async with context.pool.acquire() as connection:
            moved = await transitions.record_running(
                connection,
                generation,
                next_poll=after,
                run_deadline=profile.run_deadline,
                progress=reading.progress,
                now=now,
            )
        await report(context, [moved])
        return moved
    return Wait(after, reading.progress)


async def record_end(
    context: Context, generation: Generation, job: RemoteJob, *, now: datetime | None
) -> Generation | None:
    """Keep RunPod's terminal answer; finishing reads it."""
    ran: Generation | None = None
    async with context.pool.acquire() as connection:
        finish = partial(
            transitions.record_finishing,
            connection,
            remote_status=job.state.value,
            body=job.body,
            delay_ms=job.delay_ms,
            execution_ms=job.execution_ms,
            finish_deadline=context.settings.finish_deadline,
            now=now,
        )
        if generation.state is State.SUBMITTED and job.execution_ms:
            async with connection.transaction():
                ran = await transitions.record_ran(connection, generation, execution_ms=job.execution_ms, now=now)
                moved = await finish(ran or generation)
        else:
            moved = await finish(generation)
    if moved is not None and job.state is RemoteState.COMPLETED:
        profile = context.endpoints.pursued(generation)
        context.pace.history(generation.endpoint_id or "", expected=profile.expected_run).add(
            waited=timedelta(milliseconds=job.delay_ms or 0),
            ran=timedelta(milliseconds=job.execution_ms or 0),
            heard=generation.heard_attempt == generation.attempt,
        )
    await report(context, [ran, moved])
    return moved


async def turn_to_another(
    context: Context, generation: Generation, reading: Gone | TooLarge | NotSent | Unknown
) -> Generation | None:
    """Once the pursued attempt's result is lost for good: pursue another. None when none may have a result.

    When it is only that RunPod does not give it, and the deadline has passed: one that is said to have completed, until
    RunPod has been silent for so long that it has dropped that, too.
    """
    if isinstance(reading, TooLarge) or (isinstance(reading, Gone) and not await may_show_up(context, generation)):
        reason = "output-too-large" if isinstance(reading, TooLarge) else "result-lost"
        return await attempts.give_up(context, generation, reason=reason, actor=ACTOR)
    deadline = generation.deadline_at
    if not is_past(context, generation, deadline) or is_past(context, generation, deadline, by=SILENCE):
        return None
    return await attempts.look_elsewhere(context, generation, wait=_SLOW, reason="silent", actor=ACTOR)


async def _out_of_reach(context: Context, generation: Generation, reading: Gone | TooLarge) -> Wait | Generation | None:
    """A result that we cannot have: too large, or a 404, once that proves something."""
    if isinstance(reading, TooLarge):
        return await attempts.fail(
            context, generation, code="output-too-large", detail="The model's result is too large.", actor=ACTOR
        )
    if await may_show_up(context, generation):
        return Wait(_RETRY_UNKNOWN * 2)
    return await attempts.fail(
        context,
        generation,
        code="result-lost",
        detail="The model's result was lost before it reached us.",
        actor=ACTOR,
    )


async def may_show_up(context: Context, generation: Generation) -> bool:
    """Whether a 404 proves nothing: just after the submit, or after the first machine only started (runpod.md 5)."""
    grace, age = context.settings.lost_grace, _age(context, generation)
    if grace <= age < COLD_START:
        return await health.was_starting(context, generation.endpoint_id or "", within=grace)
    return age < grace


def _age(context: Context, generation: Generation) -> timedelta:
    return claimed_at(context, generation) - (generation.submitted_at or generation.created_at)


def _ran(context: Context, generation: Generation, job: RemoteJob) -> timedelta | None:
    """For how long a job runs, by RunPod's word and since we first saw it run; None while it waits there."""
    if job.state is not RemoteState.IN_PROGRESS:
        return None
    now = claimed_at(context, generation)
    return max(now - (generation.started_at or now), timedelta(milliseconds=job.execution_ms or 0))
