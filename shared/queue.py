"""The doorbell: arq over Redis. A bell says that there is work; a claim in Postgres says which (queue.md, Design 1)."""

import asyncio
from typing import Final
from uuid import UUID

import orjson
import structlog
from arq.connections import ArqRedis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from shared.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ADVANCE: Final = "advance"
"""The one task the doors enqueue; kept for a release when it is renamed."""
RING_TIMEOUT_SECONDS = 0.05
CONNECT_TIMEOUT_SECONDS = 2
COMMAND_TIMEOUT_SECONDS = 5
MAX_CONNECTIONS = 50
REDIS_FAILURES = (RedisError, OSError, TimeoutError)


class _Pipeline(Pipeline):
    """One whose connection goes back to the pool whatever ends its clean-up.

    redis-py keeps the connection for ever when a second cancellation, say `ring`'s own after the caller's, meets it
    while it takes back a WATCH; with `MAX_CONNECTIONS` of them gone no bell is heard until the process ends.
    """

    async def reset(self) -> None:
        try:
            await super().reset()  # type: ignore[no-untyped-call]
        finally:
            if self.connection is not None:
                await self.connection.disconnect(nowait=True)  # neither of these two waits for anything
                await self.connection_pool.release(self.connection)
                self.connection = None


class _Queue(ArqRedis):
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


def open_queue(settings: Settings) -> ArqRedis:
    """A handle on Redis that connects when first used, and again after an outage. The caller closes it.

    Redis may be away when a process starts: it is the bell, not the truth.
    """
    queue: ArqRedis = _Queue.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=COMMAND_TIMEOUT_SECONDS,
        retry_on_error=[OSError],
        max_connections=MAX_CONNECTIONS,
    )
    queue.job_serializer = orjson.dumps
    queue.job_deserializer = orjson.loads
    queue.default_queue_name = settings.queue_name
    return queue


async def ring(queue: ArqRedis, generation_id: UUID, *, version: int) -> bool:
    """Say that this generation wants moving on. False when Redis did not hear; nothing is lost, only time.

    The job's id carries the row's version, because arq drops an id it has seen (queue.md, Facts).
    """
    try:
        async with asyncio.timeout(RING_TIMEOUT_SECONDS):
            await queue.enqueue_job(ADVANCE, str(generation_id), _job_id=f"{generation_id}:{version}")
    except REDIS_FAILURES as error:
        log.warning("bell.unheard", generation_id=str(generation_id), error=type(error).__name__)
        return False
    return True


async def depth(queue: ArqRedis) -> int:
    """Bells not yet answered.

    Raises:
        RedisError or OSError: Redis cannot be asked; the depth is unknown, not 0.
    """
    return int(await queue.zcard(queue.default_queue_name))
