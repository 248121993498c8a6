"""submitted → running → finishing: ask RunPod about due jobs, batch by batch, and write back what it says.

A webhook only makes a row due at once: what it claimed is read again here, so polls, webhooks and sweeps end in one
function, `apply_remote_status` (worker/readings.py). No coroutine and no queue slot waits for a remote job.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import uuid4

import structlog

from shared import metrics
from shared.database import UNREACHABLE
from shared.generations import Generation
from worker import attempts, due, lease, pursuit, recall, stops
from worker.context import Context, report
from worker.outcomes import TooLarge
from worker.readings import ACTOR, SILENCE, Wait, apply_remote_status, turn_to_another
from worker.remote import RemoteJob
from worker.rounds import succeeded

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

WRITE_BACK_SECONDS = 1.0
"""How long answers wait for others of their claim, to be written back with them."""
LONGEST_SECONDS = 25
"""Less than the lease, so that what we write of an answer is not fenced."""
_RETRY_FAILED = timedelta(seconds=30)


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
            claimed = await lease.claim_polls(
                connection, lease_token=token, lease=context.settings.lease, places=granted.places
            )
        await due.give_back(context, connection, granted, claimed)
        if any(g.heard_attempt is not None and g.heard_attempt < g.attempt for g in claimed):
            ids = [g.id for g in claimed]
            heeded = await pursuit.heed_earlier_attempt(connection, lease_token=token, generation_ids=ids)
            turned = {g.id: g for g in heeded}
            before = {g.id: g.version for g in claimed}
            claimed = [turned.get(g.id, g) for g in claimed]
            await report(context, [g for g in heeded if g.version != before[g.id]])
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
    limited: dict[str, timedelta] = {}
    for generation, wait in waits:
        if generation.endpoint_id is not None and wait.limited:
            limited[generation.endpoint_id] = max(wait.after, limited.get(generation.endpoint_id, wait.after))
    async with context.pool.acquire() as connection:
        await context.allowances.slow_down(connection, "status", limited)
        await lease.reschedule(
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
    if lease.is_past(context, generation, generation.deadline_at, by=SILENCE):
        detail = "The model's answer cannot be read."
        return await attempts.fail(context, generation, code="unreadable-answer", detail=detail, actor=ACTOR)
    return Wait(_RETRY_FAILED)


async def _ask(context: Context, generation: Generation) -> Wait | Generation | None:
    if generation.endpoint_id is None or generation.remote_id is None:
        msg = f"generation {generation.id} is {generation.state} without a remote job"
        raise RuntimeError(msg)
    async with context.memory.room() as room:  # until it is stored
        reading = await context.runpod.status(generation.endpoint_id, generation.remote_id, make_room=room.widen)
        if await recall.is_called_for(context, generation, reading):
            return await recall.call_back(context, generation, reading)
        if not isinstance(reading, RemoteJob):
            turned = await turn_to_another(context, generation, reading)
            if turned is not None:
                return turned
        over = isinstance(reading, TooLarge) or (isinstance(reading, RemoteJob) and reading.state.terminal)
        if not over and stops.is_called_for(context, generation, reading):
            return await stops.stop(context, generation, reading)
        return await apply_remote_status(context, generation, reading)
