"""The doorbell: arq over Redis. A bell says that there is work; a claim in Postgres says which (queue.md, Design 1)."""

import asyncio
from typing import Final
from uuid import UUID

import orjson
import structlog
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

from shared.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

ADVANCE: Final = "advance"
"""The one task the doors enqueue; kept for a release when it is renamed."""
RING_TIMEOUT_SECONDS = 0.05
CONNECT_TIMEOUT_SECONDS = 2
CONNECT_RETRIES = 0
REDIS_FAILURES = (RedisError, OSError, TimeoutError)


def redis_settings(settings: Settings) -> RedisSettings:
    """arq's connection settings; OSError is retried, or a one-second restart of Redis ends the worker (queue.md)."""
    parsed = RedisSettings.from_dsn(settings.redis_url.get_secret_value())
    parsed.conn_timeout = CONNECT_TIMEOUT_SECONDS
    parsed.conn_retries = CONNECT_RETRIES
    parsed.retry_on_timeout = True
    parsed.retry_on_error = [OSError]
    return parsed


async def open_queue(settings: Settings) -> ArqRedis:
    """Connect to Redis. The caller closes it.

    Raises:
        RedisError or OSError: Redis cannot be reached.
    """
    return await create_pool(
        redis_settings(settings),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        default_queue_name=settings.queue_name,
    )


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
