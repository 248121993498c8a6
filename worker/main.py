"""The worker process. Read this first: the loops below are the arrows of the flow, in order.

    bell ─► submit ─► poll ─► finish ─► settled          sweep · audit: whatever fell off the path
                 └─► stream: texts while they are made

arq carries the bells; every loop also looks by itself every few seconds, so Redis may be lost without losing work.
SIGTERM stops claiming at once, lets short calls end (20 s at most) and exits 0; remote jobs are untouched, their rows
come due for another worker. A second SIGTERM is immediate.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import arq
import httpx
import orjson
import structlog
from prometheus_client import start_http_server

from shared import log as logs
from shared import schema
from shared.database import UNREACHABLE, open_pool
from shared.errors import ConfigurationRefused
from shared.generations import Generation
from shared.queue import ADVANCE, REDIS_FAILURES, open_queue
from shared.storage import open_storage
from shared.webhooks import PURPOSE as WEBHOOK_PURPOSE
from worker import audit, clock, finish, health, poll, purge, stream, submit, sweep
from worker.allowances import Allowances
from worker.configuration import read_endpoints
from worker.context import Context
from worker.fetch import open_outside
from worker.rounds import Rounds
from worker.routing import Router
from worker.runpod import RunPod, open_http
from worker.settings import WorkerSettings
from worker.shares import BEATS_A_LEASE, Shares
from worker.streams import Stream

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

BATCH = 50
SWEEP_SLOTS = 100
LONGEST_POLL_IDLE = timedelta(milliseconds=500)
"""Of polls and streams: they come due by themselves, without a bell."""
HEALTH_LOOK_EVERY = timedelta(seconds=5)
CLOCK_EVERY = timedelta(seconds=15)
LET_IN_EVERY = timedelta(seconds=30)
"""Less than the audit that would raise an alarm of it."""
AUDIT_EVERY = timedelta(minutes=1)
VERIFY_LOOK_EVERY = timedelta(minutes=1)
PRUNE_EVERY = timedelta(hours=1)
PURGE_EVERY = timedelta(minutes=1)
# arq (queue.md, Facts): a bell's task is over in microseconds, so its short timeout makes a crashed worker's bells ring
# again soon; the read limit lies far above what is in progress, so that no bell starves.
BELL_TIMEOUT_SECONDS = 5
BELL_JOBS = 100
BELL_POLL_SECONDS = 0.02
BELL_READ_LIMIT = 5000
RECONNECT_SECONDS = 1.0


class Loops:
    """The loops of one worker over one context."""

    def __init__(self, context: Context) -> None:
        """Wire claim and work of each step together."""
        settings = context.settings
        batch = partial(Rounds[Generation], batch=BATCH, idle=settings.idle)
        self.context = context
        self._ending = asyncio.Event()
        self.submit = batch(
            "submit",
            claim=partial(submit.claim, context),
            work=self._submit,
            slots=settings.submit_slots,
            again=context.router.again,
        )
        self.poll = Rounds[Generation](
            "poll",
            claim=partial(poll.claim, context),
            work=self._poll,
            slots=settings.poll_slots,
            batch=BATCH,
            idle=min(settings.idle, LONGEST_POLL_IDLE),
            together=True,
            again=partial(context.allowances.again, "status"),
        )
        self.stream = Rounds[Stream](
            "stream",
            claim=partial(stream.claim, context),
            work=self._stream,
            slots=settings.stream_slots,
            batch=BATCH,
            idle=min(settings.idle, LONGEST_POLL_IDLE),
        )
        finishing = partial(batch, work=self._finish, slots=settings.finish_slots)
        self.finish = finishing("finish", claim=partial(finish.claim, context))
        # Media may have all those slots while their stores do not answer: texts, which wait for none, have their own.
        self.texts = finishing("texts", claim=partial(finish.claim, context, owner="texts"))
        self.sweep = batch("sweep", claim=partial(sweep.claim, context), work=self._sweep, slots=SWEEP_SLOTS)

    async def _submit(self, claimed: Any) -> None:
        await submit.send_all(self.context, claimed)
        self.poll.ring()  # a webhook or a cancel that came during the call has made the row due
        self.stream.ring()

    async def _poll(self, claimed: Any) -> None:
        await poll.ask_all(self.context, claimed, answered=self._answered)

    def _answered(self, polls: int) -> None:
        self.poll.free(polls)
        self._ring_finish()

    async def _stream(self, claimed: Sequence[Stream]) -> None:
        for each in claimed:
            await stream.follow(self.context, each, ending=self._ending)
        self.poll.ring()
        self._ring_finish()

    def _ring_finish(self) -> None:
        self.texts.ring()
        self.finish.ring()

    async def _finish(self, claimed: Any) -> None:
        await finish.finish_all(self.context, claimed)
        self.stream.ring()  # a text whose job has ended waits for its last chunks

    async def _sweep(self, claimed: Any) -> None:
        await sweep.mend_all(self.context, claimed)
        self.ring()

    def ring(self) -> None:
        """A bell came: a generation was accepted, cancelled, or heard of by webhook."""
        self.submit.ring()
        self.poll.ring()
        self.sweep.ring()

    async def run(self, stopping: asyncio.Event) -> None:
        """Run every loop until `stopping` is set, then let what is under way end."""
        idle, lease = self.context.settings.idle, self.context.settings.lease
        beat = partial(self.context.shares.beat, self.context.pool, lease=lease)
        rounds = (self.submit, self.poll, self.stream, self.texts, self.finish, self.sweep)
        with contextlib.suppress(*UNREACHABLE):
            await beat()  # before the first claim: others may have a share already
        async with asyncio.TaskGroup() as group:
            for each in rounds:
                group.create_task(each.run(stopping))
            group.create_task(every(lease / BEATS_A_LEASE, "beat", beat, stopping))
            group.create_task(every(HEALTH_LOOK_EVERY, "health", partial(health.sample, self.context), stopping))
            group.create_task(every(idle, "orphans", partial(sweep.cancel_orphans, self.context), stopping))
            group.create_task(every(CLOCK_EVERY, "clock", partial(clock.put_right, self.context), stopping))
            group.create_task(every(LET_IN_EVERY, "let-in", partial(sweep.let_in_stranded, self.context), stopping))
            group.create_task(every(idle, "expire", partial(sweep.expire_credits, self.context), stopping))
            group.create_task(every(AUDIT_EVERY, "audit", partial(audit.audit_once, self.context), stopping))
            verify = partial(audit.verify_ledger, self.context, stopping)
            group.create_task(every(min(VERIFY_LOOK_EVERY, self.context.settings.verify), "verify", verify, stopping))
            group.create_task(every(PRUNE_EVERY, "prune", partial(sweep.prune, self.context), stopping))
            group.create_task(every(PURGE_EVERY, "purge", partial(purge.purge_once, self.context), stopping))
            group.create_task(answer_bells(self, stopping))
            await stopping.wait()
            self._ending.set()
            for each in rounds:
                each.ring()
        cut = await asyncio.gather(*(each.drain(self.context.settings.drain.total_seconds()) for each in rounds))
        with contextlib.suppress(*UNREACHABLE):
            await self.context.shares.leave(self.context.pool)
        log.info("worker.drained", cut=sum(cut))


async def every(interval: timedelta, name: str, once: Callable[[], Awaitable[Any]], stopping: asyncio.Event) -> None:
    """Do something at an interval, whatever goes wrong with it, until `stopping` is set."""
    while not stopping.is_set():
        try:
            await once()
        except UNREACHABLE as error:
            log.warning("loop.database_away", loop=name, error=type(error).__name__)
        except Exception:
            log.exception("loop.failed", loop=name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval.total_seconds()):
                await stopping.wait()


async def answer_bells(loops: Loops, stopping: asyncio.Event) -> None:
    """Run arq, and run it again when Redis comes back: arq itself ends with the connection (queue.md, Facts)."""

    async def advance(ctx: dict[Any, Any], *generation_ids: str) -> None:  # noqa: ARG001 - arq's calling convention
        loops.ring()

    while not stopping.is_set():
        queue = open_queue(loops.context.settings)
        bells = arq.Worker(
            functions=[arq.func(advance, name=ADVANCE, keep_result=0, timeout=BELL_TIMEOUT_SECONDS)],
            redis_pool=queue,
            queue_name=loops.context.settings.queue_name,
            handle_signals=False,
            max_jobs=BELL_JOBS,
            job_timeout=BELL_TIMEOUT_SECONDS,
            poll_delay=BELL_POLL_SECONDS,
            queue_read_limit=BELL_READ_LIMIT,
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
        for bell in bells.tasks.values():
            bell.cancel()
        await asyncio.gather(*bells.tasks.values(), return_exceptions=True)
        with contextlib.suppress(*REDIS_FAILURES):
            await queue.aclose()
        if not stopping.is_set():
            log.warning("bell.redis_away", error=type(failure).__name__, retry_in=RECONNECT_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECONNECT_SECONDS):
                    await stopping.wait()


async def _ended(run: "asyncio.Task[None]") -> BaseException | None:
    """Cancel a task until it is over: a client that reconnects may swallow a cancellation."""
    while not run.done():
        run.cancel()
        await asyncio.wait({run}, timeout=1)
    return None if run.cancelled() else run.exception()


@asynccontextmanager
async def open_context(
    settings: WorkerSettings, *, runpod_transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Context]:
    """Open what the steps work with, and close it again.

    Raises:
        ConfigurationRefused: the file of endpoints cannot be followed, or storage cannot be used.
        OSError or asyncpg.PostgresError: Postgres cannot be reached.
    """
    endpoints = read_endpoints(settings)
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(await open_pool(settings, application_name="twin-worker"))
        queue = open_queue(settings)
        stack.push_async_callback(queue.aclose)
        http = await stack.enter_async_context(open_http(settings, transport=runpod_transport))
        outside = await stack.enter_async_context(open_outside())
        allowances, shares = Allowances(settings.allowances()), Shares()
        yield Context(
            settings=settings,
            pool=pool,
            queue=queue,
            runpod=RunPod(http, shares=shares),
            storage=open_storage(settings),
            webhook_signer=settings.signer(WEBHOOK_PURPOSE),
            outside=outside,
            endpoints=endpoints,
            router=Router(endpoints, allowances, shares),
            allowances=allowances,
            shares=shares,
        )


async def run(settings: WorkerSettings) -> None:
    """Be a worker until told to stop.

    Raises:
        ConfigurationRefused: the schema is older or newer than this code, or endpoints or storage cannot be used.
    """
    logs.configure(settings, process="worker")
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        log.info("worker.stopping")
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with open_context(settings) as context:
        async with context.pool.acquire() as connection:
            status = await schema.schema_status(connection)
        if not status.ready:
            raise ConfigurationRefused(f"The worker does not fit the database: {status.detail}.")
        if settings.metrics_port is not None:
            start_http_server(settings.metrics_port, addr=settings.metrics_host)
        log.info("worker.ready", endpoints={p.endpoint.name: p.endpoint.endpoint_id for p in context.endpoints})
        await Loops(context).run(stopping)
