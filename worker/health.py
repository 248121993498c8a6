"""How each endpoint says it is: GET /health, asked by one of all workers every so often and kept for ops to see.

With it goes what we know of the endpoint ourselves: how large a picture it can be sent (api/sources.py refuses others),
and how much an operator lets it have of us (api/estimates.py tells how long a place takes to come free).

It does not show a paused endpoint, and one without workers may be about to have some (runpod.md 1.3); one of whose
workers none works or starts is passed over while another is open (worker/places.py). How long a 404 proves nothing
depends on it, and how much of a crowd is sent (worker/capacity.py). When RunPod does not say, the last answer stays,
with its time.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared import metrics, sql
from shared.database import UNREACHABLE
from shared.generations import Type
from worker import capacity
from worker.context import Context
from worker.endpoints import Profile
from worker.rounds import side_by_side
from worker.runpod import HEALTH_TIMEOUT_SECONDS

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

EVERY = timedelta(seconds=30)
ANSWERED = timedelta(seconds=HEALTH_TIMEOUT_SECONDS + 1)
"""After this long whoever asked has kept the answer, or there is none."""
_LOOK_AGAIN_SECONDS = 0.1
_LONGEST_NAME = 64
_PARTS = ("jobs", "workers")
_STARTING = ("initializing", "throttled")
_ABLE = ("idle", "ready", "running")


async def sample(context: Context, *, every: timedelta = EVERY) -> int:
    """Ask the endpoints whose time has come; returns how many answered."""
    return await _ask(context, await _claim(context, every))


async def first_look(context: Context, stopping: asyncio.Event, *, patience: timedelta = ANSWERED) -> None:
    """Ask before a worker's first claim, or let who asks just now keep the answer: what was learnt before is old.

    Else several workers that start together would send a crowd to an endpoint that one of them asks meanwhile.
    """
    async with asyncio.TaskGroup() as group:
        looking, stopped = group.create_task(_first_look(context)), group.create_task(stopping.wait())
        await asyncio.wait([looking, stopped], timeout=patience.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        looking.cancel()
        stopped.cancel()


async def _first_look(context: Context) -> None:
    learning = {profile.endpoint.endpoint_id for profile in context.endpoints} - context.endpoints.said().keys()
    try:
        while True:
            due = await _claim(context, EVERY)
            await _ask(context, due)
            learning -= due.keys()  # of ours we know whether they answered
            if not await _is_unanswered(context, sorted(learning)):
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except UNREACHABLE as error:
        log.warning("loop.database_away", loop="first-look", error=type(error).__name__)
    except Exception:
        metrics.LOOP_FAILURES.labels("first-look").inc()
        log.exception("loop.failed", loop="first-look")


async def _is_unanswered(context: Context, endpoint_ids: list[str]) -> bool:
    async with context.pool.acquire() as connection:
        return bool(await connection.fetchval(_SQL["is_unanswered"], endpoint_ids, ANSWERED))


async def _claim(context: Context, every: timedelta) -> dict[str, datetime]:
    """The endpoints that this worker asks now, and since when."""
    limits, said = source_limits(context.endpoints), context.endpoints.said()
    most = [said.get(endpoint_id) for endpoint_id in limits]
    async with context.pool.acquire() as connection:
        await context.router.register(connection)
        due = await connection.fetch(_SQL["claim_samples"], list(limits), list(limits.values()), every, most)
    return {row["endpoint_id"]: row["health_asked_at"] for row in due}


async def _ask(context: Context, due: Mapping[str, datetime]) -> int:
    async def ask(endpoint_id: str) -> bool:
        said = await context.runpod.health(endpoint_id)
        if said is None:
            return False
        counts = counted(said)
        starting = only_starting(counts.get("workers", {}))
        learnt = capacity.learn(counts)
        seen = None if learnt is None else capacity.seen(counts)
        async with context.pool.acquire() as connection:
            taught = (learnt, seen, due[endpoint_id])
            out = capacity.is_out(counts)
            await connection.execute(_SQL["keep_sample"], endpoint_id, counts, starting, *taught, out)
        return True

    return sum(await side_by_side(list(due), ask))


def source_limits(profiles: Iterable[Profile]) -> dict[str, int | None]:
    """The largest picture to modify that every profile of an endpoint can send there, by RunPod's id."""
    limits: dict[str, int | None] = {}
    for profile in profiles:
        endpoint_id, largest = profile.endpoint.endpoint_id, None
        if profile.endpoint.type is Type.MODIFY:
            largest = profile.kind.largest_source_bytes
        known = limits.get(endpoint_id)
        limits[endpoint_id] = min(largest, known) if largest is not None and known is not None else largest or known
    return limits


def only_starting(workers: Mapping[str, int]) -> bool:
    """Whether there are machines, and none of them can work yet."""
    return any(workers.get(name) for name in _STARTING) and not any(workers.get(name) for name in _ABLE)


async def was_starting(context: Context, endpoint_id: str, *, within: timedelta) -> bool:
    """Whether all machines of an endpoint were only starting when it was asked within this time."""
    async with context.pool.acquire() as connection:
        return bool(await connection.fetchval(_SQL["was_starting"], endpoint_id, within))


def counted(said: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The counts of an answer, as far as they are counts, and their names are names: odd ones cannot be kept."""
    return {
        part: {
            name: count
            for name, count in said[part].items()
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0 and _is_name(name)
        }
        for part in _PARTS
        if isinstance(said.get(part), dict)
    }


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier() and len(name) <= _LONGEST_NAME
