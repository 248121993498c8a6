"""What waits at RunPod ahead of its turn comes back, for somebody who stands before it in our line.

RunPod takes what waits there first come, first served; our line does not reach it. So that no machine stands idle,
more is sent than runs (worker/capacity.py), and whoever comes to a crowd would wait for the job in hand and for what
follows it. Where one runs at once, what follows is recalled before it begins: cancelled there, and back in the line,
where whoever it makes room for stands before it. So is what waits where RunPod has no machines, if another endpoint is
open. It is asked for by a look of its own, and done by the poll. That it is cancelled is on record before RunPod is
told, so whoever finds it cancelled knows why.
"""

from datetime import datetime, timedelta

import asyncpg
import structlog

from shared import queue, sql
from shared.generations import RESERVED_DEADLINE, Generation, State
from worker import capacity, line, pursuit, readings, stops, transitions
from worker.context import Context, report
from worker.lease import claimed_at, is_past
from worker.outcomes import Gone, Reading
from worker.readings import ACTOR, Wait
from worker.remote import RemoteJob, RemoteState
from worker.settings import MOST_RECALLS

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

ON_ITS_WAY = timedelta(seconds=30)
"""For how long a job that was asked back, and has not been cancelled, is still meant to come back …"""
PATIENCE = timedelta(seconds=2)
"""… and after how long of that one is asked back at another endpoint, too."""
OUT_OF_MACHINES = timedelta(seconds=60)
"""How long a job waits at an endpoint without machines before it is to be sent to another: some may come back."""
ELSEWHERE_AT_ONCE = 100
"""How many of those are asked back at one look; the next one comes soon."""
_RETRY = timedelta(seconds=1)


async def look(context: Context, *, now: datetime | None = None) -> int:
    """Ask back what is in somebody's way, and what waits where no machine is. Returns how many were."""
    asked = [*await _in_the_way(context, now), *await _out_of_machines(context, now)]
    for row in asked:
        log.info("generation.asked_back", generation_id=str(row["id"]), attempt=row["attempt"])
        await queue.ring(context.queue, row["id"], version=row["version"])
    return len(asked)


async def _in_the_way(context: Context, now: datetime | None) -> list[asyncpg.Record]:
    """Where the last claim found endpoints full."""
    full = {id_: limit for id_, limit in context.router.take_full().items() if capacity.has_one_ahead(limit)}
    if not full:
        return []
    places = [
        {
            "type": profile.endpoint.type.value,
            "name": profile.endpoint.name,
            "endpoint_id": profile.endpoint.endpoint_id,
            "jobs": full[profile.endpoint.endpoint_id],
            "anywhere": profile.endpoint.type not in context.router.out.get(profile.endpoint.endpoint_id, ()),
        }
        for profile in context.endpoints
        if profile.endpoint.endpoint_id in full
    ]
    async with context.pool.acquire() as connection, connection.transaction():
        await line.lock(connection, full)
        asked: list[asyncpg.Record] = await connection.fetch(
            _SQL["ask_back"], places, MOST_RECALLS, context.settings.lease, ON_ITS_WAY, PATIENCE, now
        )
        return asked


async def _out_of_machines(context: Context, now: datetime | None) -> list[asyncpg.Record]:
    """What waits at endpoints that are out of machines, for which there is another."""
    out = [
        {"endpoint_id": endpoint_id, "type": kind.value}
        for endpoint_id, kinds in context.router.out.items()
        for kind in kinds
    ]
    if not out:
        return []
    async with context.pool.acquire() as connection:
        asked: list[asyncpg.Record] = await connection.fetch(
            _SQL["ask_elsewhere"],
            out,
            MOST_RECALLS,
            context.settings.lease,
            ON_ITS_WAY,
            OUT_OF_MACHINES,
            now,
            ELSEWHERE_AT_ONCE,
        )
        return asked


async def is_called_for(context: Context, generation: Generation, reading: Reading) -> bool:
    """Whether this job is to come back and has not begun, or is cancelled or gone since we cancelled it for that."""
    if generation.cancel_requested_at is not None:
        return False
    cancelled = generation.recalled_attempt == generation.attempt
    if isinstance(reading, RemoteJob) and reading.state is RemoteState.IN_QUEUE:
        waits = generation.state is State.SUBMITTED and not is_past(context, generation, generation.deadline_at)
        return waits and (cancelled or _is_asked_back(context, generation))
    over = isinstance(reading, Gone) or (isinstance(reading, RemoteJob) and reading.state is RemoteState.CANCELLED)
    if not over or generation.recalled_attempt is None:
        return False
    async with context.pool.acquire() as connection:
        attempt = (generation.id, generation.attempt, cancelled)
        return bool(await connection.fetchval(_SQL["may_be_sent_again"], *attempt))


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
    gone = isinstance(answer, Gone) and not await readings.may_show_up(context, generation)
    cancelled = isinstance(answer, RemoteJob) and answer.state is RemoteState.CANCELLED
    if not (gone or cancelled):
        return Wait(_RETRY)
    async with context.pool.acquire() as connection, connection.transaction():
        await pursuit.believe_no_more(connection, generation)
        recalled = await transitions.record_recalled(
            connection, generation, still_there=gone, deadline=RESERVED_DEADLINE, actor=ACTOR
        )
    if recalled is not None:
        await report(context, [recalled])
        await queue.ring(context.queue, recalled.id, version=recalled.version)
    return recalled
