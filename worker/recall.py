"""What waits at RunPod ahead of its turn comes back, for somebody who has nothing at its endpoint.

RunPod takes what waits there first come, first served; our line does not reach it. So that no machine stands idle,
more is sent than runs (worker/capacity.py), and whoever comes to a crowd would wait for the job in hand and for what
follows it. Where that could be, what follows is recalled before it begins: cancelled there, and back in the line,
behind whom it makes room for. It is asked for by a look of its own, and done by the poll. That it is cancelled is on
record before RunPod is told, so whoever finds it cancelled knows why.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from shared import queue, sql
from shared.generations import CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, Generation, State
from worker import attempts, capacity, line, readings, stops
from worker.context import Context
from worker.lease import claimed_at, is_past
from worker.outcomes import Gone, Reading
from worker.readings import ACTOR, Wait
from worker.remote import RemoteJob, RemoteState
from worker.settings import MOST_RECALLS

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

ON_ITS_WAY = timedelta(seconds=30)
"""For how long a job that was asked back, and has not been cancelled, is still meant to come back."""
_RETRY = timedelta(seconds=1)


async def look(context: Context, *, now: datetime | None = None) -> int:
    """Where the last claim found endpoints full: ask back what is in somebody's way. Returns how many were."""
    full = context.router.take_full()
    if not full:
        return 0
    async with context.pool.acquire() as connection, connection.transaction():
        there = await line.count(connection, full, learnt=full, now=now)
        crowded = {endpoint_id for endpoint_id, ours in there.items() if _delays(full, endpoint_id, ours)}
        places = [
            {"type": p.endpoint.type.value, "name": p.endpoint.name, "endpoint_id": p.endpoint.endpoint_id}
            for p in context.endpoints
            if p.endpoint.endpoint_id in crowded
        ]
        asked = await connection.fetch(
            _SQL["ask_back"],
            places,
            MOST_RECALLS,
            context.settings.lease,
            ON_ITS_WAY,
            CREDIT_IN_LINE,
            LONGEST_IN_LINE_CREDITS,
            now,
        )
    for row in asked:
        log.info("generation.asked_back", generation_id=str(row["id"]), attempt=row["attempt"])
        await queue.ring(context.queue, row["id"], version=row["version"])
    return len(asked)


def _delays(limits: Mapping[str, int], endpoint_id: str, ours: line.Ours) -> bool:
    return capacity.delays(limits[endpoint_id], jobs=ours.jobs)


def is_called_for(context: Context, generation: Generation, reading: Reading) -> bool:
    """Whether this job is to come back and has not begun, or is cancelled or gone since we cancelled it for that."""
    if generation.cancel_requested_at is not None:
        return False
    cancelled = generation.recalled_attempt == generation.attempt
    if isinstance(reading, Gone):
        return cancelled
    if not isinstance(reading, RemoteJob):
        return False
    if reading.state is RemoteState.CANCELLED:
        return cancelled
    waits = reading.state is RemoteState.IN_QUEUE and generation.state is State.SUBMITTED
    late = is_past(context, generation, generation.deadline_at)
    return waits and not late and (cancelled or _is_asked_back(context, generation))


def _is_asked_back(context: Context, generation: Generation) -> bool:
    asked_at = generation.recall_asked_at
    return asked_at is not None and abs(claimed_at(context, generation) - asked_at) <= ON_ITS_WAY


async def call_back(context: Context, generation: Generation, reading: Reading) -> Wait | Generation | None:
    """Cancel it at RunPod, and have it wait in our line again. What has ended meanwhile is read instead."""
    answer = reading
    if isinstance(reading, RemoteJob) and reading.state is RemoteState.IN_QUEUE:
        async with context.pool.acquire() as connection:
            fence = (generation.id, generation.version, generation.lease_token)
            if not await connection.fetchval(_SQL["note_cancel"], *fence):
                return None
        answer = await stops.cancel(context, generation)
    if isinstance(answer, Gone) and not await readings.may_show_up(context, generation):
        return await attempts.line_up_again(context, generation, still_there=True, actor=ACTOR)
    if isinstance(answer, RemoteJob) and answer.state is RemoteState.CANCELLED:
        return await attempts.line_up_again(context, generation, still_there=False, actor=ACTOR)
    return Wait(_RETRY)
