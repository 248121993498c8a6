"""How each endpoint says it is: GET /health, asked by one of all workers every so often and kept for ops to see.

With it goes what we know of the endpoint ourselves: how large a picture it can be sent (api/sources.py refuses others).

No work is routed by it: it does not show a paused endpoint, and one without workers may be about to have some
(runpod.md 1.3). How long a 404 proves nothing depends on it, and how much of a crowd is sent (worker/capacity.py). When
RunPod does not say, the last answer stays, with its time.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from shared import sql
from shared.generations import Type
from worker import capacity, line
from worker.context import Context
from worker.endpoints import Profile
from worker.rounds import side_by_side

_SQL = sql.load(__file__)

EVERY = timedelta(seconds=30)
_PARTS = ("jobs", "workers")
_STARTING = ("initializing", "throttled")
_ABLE = ("idle", "ready", "running")


async def sample(context: Context, *, every: timedelta = EVERY) -> int:
    """Ask the endpoints whose time has come; returns how many answered."""
    limits = source_limits(context.endpoints)
    async with context.pool.acquire() as connection:
        await context.router.register(connection)
        due = [
            row["endpoint_id"]
            for row in await connection.fetch(_SQL["claim_samples"], list(limits), list(limits.values()), every)
        ]

    async def ask(endpoint_id: str) -> bool:
        said = await context.runpod.health(endpoint_id)
        if said is None:
            return False
        counts = counted(said)
        starting = only_starting(counts.get("workers", {}))
        async with context.pool.acquire() as connection:
            in_flight = await line.in_flight(connection, [endpoint_id])
            learnt = capacity.learn(counts, in_flight=in_flight[endpoint_id])
            await connection.execute(_SQL["keep_sample"], endpoint_id, counts, starting, learnt)
        return True

    return sum(await side_by_side(due, ask))


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
    """The counts of an answer, as far as they are counts."""
    return {
        part: {
            name: count
            for name, count in said[part].items()
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0
        }
        for part in _PARTS
        if isinstance(said.get(part), dict)
    }
