"""submitted → running → finishing: ask RunPod about due jobs, batch by batch, and write back what it says.

A webhook only makes a row due at once: what it claimed is read again here, so polls, webhooks and sweeps end in one
function, `apply_remote_status`. No coroutine and no queue slot waits for a remote job.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog

from shared import metrics
from shared.database import UNREACHABLE
from shared.generations import Generation, State
from worker import due, health, settle, streamed, transitions
from worker.context import Context, report
from worker.lease import claimed_at, is_past
from worker.remote import RemoteJob, RemoteState
from worker.rounds import succeeded
from worker.runpod import Gone, NotSent, Reading, Sign, TooLarge, Unknown

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ACTOR = "worker/poll"
CANCEL_GRACE = timedelta(seconds=60)
"""How long RunPod may fail to answer a cancel before the person is refunded all the same; the sweep goes on asking."""
COLD_START = timedelta(minutes=15)
"""How long RunPod may not know a job while its machines only start: they pull the image."""
SILENCE = timedelta(minutes=30)
"""How long RunPod keeps a result (runpod.md 1.3); after so much silence past a deadline nothing is waited for."""
WRITE_BACK_SECONDS = 1.0
"""How long answers wait for others of their claim, to be written back with them."""
LONGEST_SECONDS = 25
"""Less than the lease, so that what we write of an answer is not fenced."""
_RETRY_UNKNOWN = timedelta(seconds=2)
_RETRY_FAILED = timedelta(seconds=30)
_RETRY_CANCEL = timedelta(seconds=1)
_SLOW = timedelta(seconds=15)
"""How seldom a job is asked about, at most, while its endpoint's breaker is open. A webhook hurries it all the same."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to write but when to ask again, and what the handler reported last.

    `limited`: RunPod said 429 to the question.
    """

    after: timedelta
    progress: str | None = None
    limited: bool = False


async def claim(context: Context, limit: int) -> list[Generation]:
    """Lease up to `limit` generations whose poll is due, each turned to the attempt that it should pursue.

    What was heard of comes first, here and in the order in which it is asked about.
    """
    token = uuid4()
    async with context.pool.acquire() as connection:
        await context.router.register(connection)
        granted = await due.take(context, connection, limit)
        claimed: list[Generation] = []
        if any(granted.places.values()):
            claimed = await transitions.claim_polls(
                connection, lease_token=token, lease=context.settings.lease, places=granted.places
            )
        await due.give_back(context, connection, granted, claimed)
        if any(g.heard_attempt is not None and g.heard_attempt < g.attempt for g in claimed):
            ids = [g.id for g in claimed]
            heeded = await transitions.heed_earlier_attempt(connection, lease_token=token, generation_ids=ids)
            turned = {g.id: g for g in heeded}
            claimed = [turned.get(g.id, g) for g in claimed]
    return sorted(claimed, key=due.unheard)


async def ask_all(
    context: Context, claimed: Sequence[Generation], *, answered: Callable[[int], None] = lambda _: None
) -> None:
    """Ask about every claimed job side by side; write the unchanged ones back in one statement.

    Those that take long keep no other waiting: what has been answered meanwhile is written back every second, and
    `answered` is told how many those were.
    """

    async def answer(generation: Generation) -> tuple[Generation, Wait | Generation | None]:
        return generation, await ask(context, generation)

    asking = {asyncio.create_task(answer(generation)) for generation in claimed}
    try:
        while asking:
            done, asking = await asyncio.wait(asking, timeout=WRITE_BACK_SECONDS)
            results = succeeded(await asyncio.gather(*done, return_exceptions=True))
            waits = [(generation, result) for generation, result in results if isinstance(result, Wait)]
            succeeded(await asyncio.gather(_write_back(context, waits), return_exceptions=True))
            answered(len(done))
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _write_back(context: Context, waits: Sequence[tuple[Generation, Wait]]) -> None:
    """Of one claim."""
    if not waits or waits[0][0].lease_token is None:
        return
    limited = {g.endpoint_id: wait.after for g, wait in waits if g.endpoint_id is not None and wait.limited}
    async with context.pool.acquire() as connection:
        await context.allowances.slow_down(connection, "status", limited)
        await transitions.reschedule(
            connection,
            lease_token=waits[0][0].lease_token,
            waits={generation.id: (wait.after, wait.progress) for generation, wait in waits},
        )


async def poll_once(context: Context, *, limit: int = 100) -> int:
    """One round; returns how many were claimed."""
    claimed = await claim(context, limit)
    if claimed:
        await ask_all(context, claimed)
    return len(claimed)


async def ask(context: Context, generation: Generation) -> Wait | Generation | None:
    """Ask RunPod about one leased job, and move it on. Whatever goes wrong with it, its deadline ends it."""
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            return await _ask(context, generation)
    except TimeoutError:
        log.warning("poll.slow", generation_id=str(generation.id))
    except UNREACHABLE:
        raise
    except Exception:
        metrics.LOOP_FAILURES.labels("poll-item").inc()
        log.exception("poll.failed", generation_id=str(generation.id))
    if is_past(context, generation, generation.deadline_at, by=SILENCE):
        return await settle.fail(
            context, generation, code="unreadable-answer", detail="The model's answer cannot be read.", actor=ACTOR
        )
    return Wait(_RETRY_FAILED)


async def _ask(context: Context, generation: Generation) -> Wait | Generation | None:
    if generation.endpoint_id is None or generation.remote_id is None:
        msg = f"generation {generation.id} is {generation.state} without a remote job"
        raise RuntimeError(msg)
    async with context.memory.room() as room:  # until it is stored
        reading = await context.runpod.status(generation.endpoint_id, generation.remote_id, make_room=room.widen)
        over = isinstance(reading, RemoteJob) and reading.state.terminal
        if not over and _should_end(context, generation, reading):
            return await _end(context, generation, reading)
        return await apply_remote_status(context, generation, reading)


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
        return await _terminal(context, generation, reading, now=now)
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


async def _terminal(
    context: Context, generation: Generation, job: RemoteJob, *, now: datetime | None
) -> Generation | None:
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


async def _out_of_reach(context: Context, generation: Generation, reading: Gone | TooLarge) -> Wait | Generation | None:
    """A result that we cannot have: too large, or a 404, once that proves something. Its attempt is an orphan then."""
    if isinstance(reading, TooLarge):
        return await settle.fail(
            context, generation, code="output-too-large", detail="The model's result is too large.", actor=ACTOR
        )
    if await _may_show_up(context, generation):
        return Wait(_RETRY_UNKNOWN * 2)
    return await settle.fail(
        context,
        generation,
        code="result-lost",
        detail="The model's result was lost before it reached us.",
        actor=ACTOR,
    )


async def _may_show_up(context: Context, generation: Generation) -> bool:
    """Whether a 404 proves nothing: just after the submit, or after the first machine only started (runpod.md 5)."""
    grace, age = context.settings.lost_grace, _age(context, generation)
    if grace <= age < COLD_START:
        return await health.was_starting(context, generation.endpoint_id or "", within=grace)
    return age < grace


def _should_end(context: Context, generation: Generation, reading: Reading) -> bool:
    """Whether a job that has not ended there should: the person asked, or its deadline passed.

    While RunPod does not say how it stands, it may have completed (after an outage of ours, say): only a silence as
    long as RunPod keeps results makes the deadline count.
    """
    if generation.cancel_requested_at is not None:
        return True
    silent = isinstance(reading, NotSent | Unknown)
    return is_past(context, generation, generation.deadline_at, by=SILENCE if silent else timedelta(0))


async def _end(context: Context, generation: Generation, reading: Reading) -> Wait | Generation | None:
    """Cancel a job at RunPod, because the person asked or its deadline passed; then settle with nothing charged."""
    answer: Reading = reading
    if not isinstance(reading, Gone):
        answer = await _cancel(context, generation)
    if isinstance(answer, RemoteJob) and answer.state is RemoteState.COMPLETED:
        return Wait(timedelta(0))  # it ended while we asked: read the result
    if isinstance(answer, NotSent | Unknown) and not _cancel_is_overdue(context, generation):
        return Wait(_RETRY_CANCEL)
    if generation.cancel_requested_at is not None:
        if isinstance(answer, RemoteJob) and answer.state.terminal and streamed.sells_broken(context, generation):
            return await _terminal(context, generation, answer, now=None)  # finish knows what came of it, and the price
        return await settle.cancel(context, generation, reason="cancelled-by-person", actor=ACTOR)
    queued = generation.state is State.SUBMITTED
    return await settle.fail(
        context,
        generation,
        code="queue-deadline" if queued else "run-deadline",
        detail="No machine was free in time." if queued else "The model took longer than it may.",
        actor=ACTOR,
    )


async def _cancel(context: Context, generation: Generation) -> Reading:
    """Cancels are few, and each ends in a settlement: their tokens are taken one by one."""
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


def _cancel_is_overdue(context: Context, generation: Generation) -> bool:
    asked = generation.cancel_requested_at or generation.deadline_at
    return is_past(context, generation, asked, by=CANCEL_GRACE)


def _age(context: Context, generation: Generation) -> timedelta:
    return claimed_at(context, generation) - (generation.submitted_at or generation.created_at)


def _ran(context: Context, generation: Generation, job: RemoteJob) -> timedelta | None:
    """For how long a job runs, by RunPod's word and since we first saw it run; None while it waits there."""
    if job.state is not RemoteState.IN_PROGRESS:
        return None
    now = claimed_at(context, generation)
    return max(now - (generation.started_at or now), timedelta(milliseconds=job.execution_ms or 0))
