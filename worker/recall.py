"""What waits at RunPod behind another job of the same person comes back, for somebody who has nothing at its endpoint.

RunPod takes what waits there first come, first served; our line does not reach it. So that no machine stands idle,
more is sent than runs (worker/capacity.py), and whoever comes to a crowd would wait for the job in hand and for what
follows it. Where that could be, what follows is recalled before it begins: cancelled there, and back in the line, right
behind whom it makes room for. It is asked for in one transaction, and done by the poll; whoever finds it cancelled
later writes that down.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from shared import queue
from shared.database import Connection
from shared.generations import RESERVED_DEADLINE, Generation
from worker import capacity, line, stops, transitions
from worker.context import Context, report
from worker.outcomes import Reading
from worker.places import Deal
from worker.readings import ACTOR, Wait
from worker.remote import RemoteJob, RemoteState
from worker.settings import MOST_RECALLS
from worker.transitions import Endpoint

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RETRY = timedelta(seconds=1)


async def ask_back(
    connection: Connection, deal: Deal, *, endpoints: Sequence[Endpoint], now: datetime | None = None
) -> list[Generation]:
    """After a claim: have what is before the first in line recalled where their endpoint is full; one at each."""
    full = deal.outgrown.intersection(deal.learnt)
    if not full:
        return []
    async with connection.transaction():
        there = await line.count(connection, full, learnt=deal.learnt, now=now)
        crowded = {
            endpoint_id
            for endpoint_id, ours in there.items()
            if capacity.delays(deal.limits[endpoint_id], jobs=ours.jobs)
        }
        waiting = [place for place in endpoints if place.endpoint_id in crowded]
        return (
            await line.recall(connection, waiting, endpoints=endpoints, most=MOST_RECALLS, now=now) if waiting else []
        )


def is_called_for(generation: Generation, reading: Reading) -> bool:
    """Whether this job is recalled and has not begun, or was cancelled because of that and nobody wrote it down."""
    return (
        generation.recalled_attempt == generation.attempt
        and generation.cancel_requested_at is None
        and isinstance(reading, RemoteJob)
        and reading.state in (RemoteState.IN_QUEUE, RemoteState.CANCELLED)
    )


async def call_back(context: Context, generation: Generation, reading: Reading) -> Wait | Generation | None:
    """Cancel it at RunPod, and have it wait in our line again. What has ended meanwhile is read instead."""
    answer = reading
    if isinstance(reading, RemoteJob) and reading.state is RemoteState.IN_QUEUE:
        answer = await stops.cancel(context, generation)
    if not isinstance(answer, RemoteJob) or answer.state is not RemoteState.CANCELLED:
        return Wait(_RETRY)
    async with context.pool.acquire() as connection:
        recalled = await transitions.record_recalled(connection, generation, deadline=RESERVED_DEADLINE, actor=ACTOR)
    if recalled is not None:
        await report(context, [recalled])
        await queue.ring(context.queue, recalled.id, version=recalled.version)
    return recalled
