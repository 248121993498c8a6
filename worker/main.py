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

import httpx
import structlog
from prometheus_client import start_http_server

from shared import log as logs
from shared import schema
from shared.database import UNREACHABLE, open_pool
from shared.errors import ConfigurationRefused
from shared.generations import Generation
from shared.queue import open_queue
from shared.storage import open_storage
from shared.webhooks import PURPOSE as WEBHOOK_PURPOSE
from worker import audit, bells, clock, finish, health, poll, purge, recall, stream, submit, sweep
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
RECALL_EVERY = timedelta(milliseconds=200)
HEALTH_LOOK_EVERY = timedelta(seconds=1)
"""Half of how soon an endpoint may be asked again (worker/capacity.py)."""
CLOCK_EVERY = timedelta(seconds=15)
LET_IN_EVERY = timedelta(seconds=30)
"""Less than the audit that would raise an alarm of it."""
AUDIT_EVERY = timedelta(minutes=1)
VERIFY_LOOK_EVERY = timedelta(minutes=1)
PRUNE_EVERY = timedelta(hours=1)
PURGE_EVERY = timedelta(minutes=1)


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
        rounds = (self.submit, self.poll, self.stream, self.texts, self.finish, self.sweep)
        time, patience = asyncio.get_running_loop().time, self.context.settings.drain.total_seconds()
        with contextlib.suppress(*UNREACHABLE):
            await self._beat()  # before the first claim: others may have a share already
        await health.first_look(self.context, stopping)
        async with asyncio.TaskGroup() as group:
            looking = [group.create_task(each.run(stopping)) for each in rounds]
            looking += [
                group.create_task(every(interval, name, once, stopping))
                for name, (interval, once) in self._by_the_clock(stopping).items()
            ]
            group.create_task(bells.answer(self.context.settings, self.ring, stopping))
            await stopping.wait()
            end = time() + patience
            self._ending.set()
            for each in rounds:
                each.ring()
            _, late = await asyncio.wait(looking, timeout=patience)
            for task in late:
                task.cancel()  # as if it were killed there: whatever it did is done again
        cut = await asyncio.gather(*(each.drain(max(0.0, end - time())) for each in rounds))
        with contextlib.suppress(*UNREACHABLE):
            await self.context.shares.leave(self.context.pool)
        log.info("worker.drained", cut=sum(cut) + len(late))

    async def _beat(self) -> None:
        await self.context.shares.beat(self.context.pool, lease=self.context.settings.lease)

    def _by_the_clock(self, stopping: asyncio.Event) -> dict[str, tuple[timedelta, Callable[[], Awaitable[Any]]]]:
        """What is done at an interval, whether or not there is work."""
        context = self.context
        idle, verify = context.settings.idle, min(VERIFY_LOOK_EVERY, context.settings.verify)
        return {
            "beat": (context.settings.lease / BEATS_A_LEASE, self._beat),
            "health": (HEALTH_LOOK_EVERY, partial(health.sample, context)),
            "recall": (RECALL_EVERY, partial(recall.look, context)),
            "orphans": (idle, partial(sweep.cancel_orphans, context)),
            "clock": (CLOCK_EVERY, partial(clock.put_right, context)),
            "let-in": (LET_IN_EVERY, partial(sweep.let_in_stranded, context)),
            "rest": (LET_IN_EVERY, partial(sweep.rest_lines, context)),
            "expire": (idle, partial(sweep.expire_credits, context)),
            "audit": (AUDIT_EVERY, partial(audit.audit_once, context)),
            "verify": (verify, partial(audit.verify_ledger, context, stopping)),
            "prune": (PRUNE_EVERY, partial(sweep.prune, context)),
            "purge": (PURGE_EVERY, partial(purge.purge_once, context)),
        }


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
