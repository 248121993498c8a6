"""Keeping a lease while work goes on that may outlast it: nobody else takes the row, and no slot is taken twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog

from shared.database import UNREACHABLE
from shared.generations import Generation
from worker import transitions
from worker.context import Context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def claimed_at(context: Context, generation: Generation) -> datetime:
    """When a claimed generation was claimed, by the database's clock: ours may be wrong, and deadlines are its own."""
    if generation.due_at is None:
        msg = f"generation {generation.id} is not claimed"
        raise ValueError(msg)
    return generation.due_at - context.settings.lease


def is_past(context: Context, generation: Generation, moment: datetime | None, *, by: timedelta = timedelta(0)) -> bool:
    """Whether a moment was over, by so much, when the generation was claimed."""
    return moment is not None and claimed_at(context, generation) - moment >= by


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
