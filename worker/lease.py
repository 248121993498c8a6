"""Keeping a lease while work goes on that may outlast it: nobody else takes the row, and no slot is taken twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from shared.database import UNREACHABLE
from shared.generations import Generation
from worker import transitions
from worker.context import Context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@asynccontextmanager
async def kept(context: Context, generation: Generation) -> AsyncIterator[None]:
    """Renew the lease of a claimed generation every third of it, until the block ends or the lease is lost."""
    renewing = asyncio.create_task(_renew(context, generation), name=f"lease of {generation.id}")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(context: Context, generation: Generation) -> None:
    lease = context.settings.lease
    while True:
        await asyncio.sleep(lease.total_seconds() / 3)
        try:
            async with context.pool.acquire() as connection:
                if not await transitions.renew(connection, generation, lease=lease):
                    return  # lost: every write is fenced, so the work may end by itself
        except UNREACHABLE as error:
            log.warning("lease.database_away", generation_id=str(generation.id), error=type(error).__name__)
