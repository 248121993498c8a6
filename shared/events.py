"""Word that a generation changed, for live pages: Redis pub/sub, after the commit. Lost word costs a second, no more.

The durable events are the rows of `generation_transitions`; whoever is told reads them there.
"""

import asyncio
from collections.abc import Iterable

import orjson
import structlog
from arq.connections import ArqRedis

from shared.generations import Generation
from shared.queue import REDIS_FAILURES, RING_TIMEOUT_SECONDS

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def channel(queue: ArqRedis) -> str:
    """The channel beside the queue of the same deployment."""
    return f"{queue.default_queue_name}:events"


async def announce(queue: ArqRedis, generations: Iterable[Generation]) -> None:
    """Tell every API process which people's generations changed. Never raises for Redis's sake."""
    news = [{"user_id": g.user_id, "generation_id": str(g.id), "version": g.version} for g in generations]
    if not news:
        return
    try:
        async with asyncio.timeout(RING_TIMEOUT_SECONDS):
            await queue.publish(channel(queue), orjson.dumps(news))
    except REDIS_FAILURES as error:
        log.debug("events.unheard", error=type(error).__name__)
