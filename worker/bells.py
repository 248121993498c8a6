"""The bells that arq carries: something was accepted, cancelled or heard of. What is to be done stands in Postgres.

arq itself ends with the connection to Redis (queue.md, Facts), so it is run anew until the worker stops.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

import arq
import orjson
import structlog

from shared.queue import ADVANCE, REDIS_FAILURES, open_queue
from shared.settings import Settings

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# arq (queue.md, Facts): a bell's task is over in microseconds, so its short timeout makes a crashed worker's bells ring
# again soon; the read limit lies far above what is in progress, so that no bell starves.
TIMEOUT_SECONDS = 5
JOBS = 100
POLL_SECONDS = 0.02
READ_LIMIT = 5000
RECONNECT_SECONDS = 1.0
CANCELLED_SECONDS = 0.1
LAST_WRITES_SECONDS = 1.0
"""How long who stops waits for bells to be taken off the queue: arq writes that where no cancellation reaches it."""


async def answer(settings: Settings, ring: Callable[[], None], stopping: asyncio.Event) -> None:
    """Run arq until `stopping` is set, and run it again when Redis comes back; `ring` is called for each bell."""

    async def advance(ctx: dict[Any, Any], *generation_ids: str) -> None:  # noqa: ARG001 - arq's calling convention
        ring()

    while not stopping.is_set():
        queue = open_queue(settings)
        bells = arq.Worker(
            functions=[arq.func(advance, name=ADVANCE, keep_result=0, timeout=TIMEOUT_SECONDS)],
            redis_pool=queue,
            queue_name=settings.queue_name,
            handle_signals=False,
            max_jobs=JOBS,
            job_timeout=TIMEOUT_SECONDS,
            poll_delay=POLL_SECONDS,
            queue_read_limit=READ_LIMIT,
            keep_result=0,
            log_results=False,
            health_check_interval=10,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
        )
        run = asyncio.create_task(bells.async_run(), name="arq")
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        failure = await _ended(run)
        await _finished(bells.tasks.values())
        with contextlib.suppress(*REDIS_FAILURES):
            await queue.aclose()
        if not stopping.is_set():
            log.warning("bell.redis_away", error=type(failure).__name__, retry_in=RECONNECT_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_SECONDS):
                    await stopping.wait()


async def _ended(run: "asyncio.Task[None]") -> BaseException | None:
    """Cancel a task until it is over: redis-py loses a cancellation that comes together with its answer."""
    while not run.done():
        run.cancel()
        await asyncio.wait({run}, timeout=CANCELLED_SECONDS)
    return None if run.cancelled() else run.exception()


async def _finished(bells: "Collection[asyncio.Task[None]]") -> None:
    """Let bells that are being answered end by themselves, and those that Redis does not let end be cancelled."""
    if not bells:
        return
    _, unfinished = await asyncio.wait(bells, timeout=LAST_WRITES_SECONDS)
    for bell in unfinished:
        bell.cancel()
    await asyncio.gather(*bells, return_exceptions=True)
