"""Erasing what people deleted, when their time to think again is over: media first, then the words in the row.

| the process dies | what is left | and then |
|---|---|---|
| after the claim | `purging_at`: nobody can restore it, all of it is there | claimed again when the lease is over |
| while media are deleted, or after | the row still has its words | deleted again, which is no error, and erased |
| after the erasure | `purged_at` | nothing: it was one transaction |
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from shared import metrics, sql
from shared.errors import StorageUnavailable
from worker.context import Context
from worker.rounds import side_by_side

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

LEASE = timedelta(minutes=10)
"""Far longer than deleting a batch takes; also how long a store that is away is left alone."""
BATCH = 20


async def claim(context: Context, limit: int = BATCH) -> list[UUID]:
    """Take up to `limit` deleted generations whose time is over; from now on they cannot be restored."""
    async with context.pool.acquire() as connection:
        return [row["id"] for row in await connection.fetch(_SQL["claim"], limit, LEASE, None)]


async def purge_all(context: Context, claimed: Sequence[UUID]) -> int:
    """Erase what was claimed; returns how many are gone."""
    return sum(await side_by_side(claimed, partial(_purge, context)))


async def purge_once(context: Context) -> int:
    """Erase whatever is due, batch by batch; returns how many are gone."""
    purged = 0
    while claimed := await claim(context):
        purged += await purge_all(context, claimed)
        if len(claimed) < BATCH:
            break
    return purged


async def _purge(context: Context, generation_id: UUID) -> bool:
    try:
        objects = await context.storage.delete(generation_id)
    except StorageUnavailable as error:
        log.warning("purge.pending", generation_id=str(generation_id), reason=error.detail)
        return False
    return await erase(context, generation_id, objects=objects)


async def erase(context: Context, generation_id: UUID, *, objects: int) -> bool:
    """Erase the row's own words, after its media; False when somebody else did."""
    async with context.pool.acquire() as connection:
        erased = await connection.fetchval(_SQL["erase"], generation_id, None)
    if erased is None:
        return False
    metrics.SWEEP_ACTIONS.labels("purged").inc()
    log.info("generation.purged", generation_id=str(generation_id), objects=objects)
    return True
