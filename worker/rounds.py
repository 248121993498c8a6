"""A loop that claims work and does it: woken by a bell, and by itself now and then, so that the bell may be lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

import structlog

from shared import metrics
from shared.database import UNREACHABLE

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SHORTEST_BACKOFF_SECONDS = 0.25
_LONGEST_BACKOFF_SECONDS = 5.0

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(items: Sequence[T], do: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do something for every item at once; the failure of one cuts off none of the others.

    Returns what those that succeeded gave, in order. What failed is logged; its lease runs out and it comes due again.
    """
    return succeeded(await asyncio.gather(*(do(item) for item in items), return_exceptions=True))


def succeeded(results: Iterable[R | BaseException]) -> list[R]:
    """What those that succeeded gave. What failed is logged; what cut us off is raised."""
    results = list(results)
    for result in results:
        if isinstance(result, UNREACHABLE):
            log.warning("item.database_away", error=type(result).__name__)
        elif isinstance(result, Exception):
            metrics.LOOP_FAILURES.labels("item").inc()
            log.error("item.failed", exc_info=result)
        elif isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


class Rounds(Generic[T]):
    """Claims batches while there are free slots, and works on what it claimed in tasks of their own."""

    def __init__(
        self,
        name: str,
        *,
        claim: Callable[[int], Awaitable[Sequence[T]]],
        work: Callable[[Sequence[T]], Awaitable[None]],
        slots: int,
        batch: int,
        idle: timedelta,
        together: bool = False,
        again: Callable[[], timedelta | None] = lambda: None,
    ) -> None:
        """`claim(limit)` leases up to `limit` items; `work` moves them on, one by one or a claimed batch `together`.

        `again` says how soon there may be more when a claim came back short, or None: with the next bell.
        """
        self._name = name
        self._claim = claim
        self._work = work
        self._slots = slots
        self._batch = batch
        self._together = together
        self._idle_seconds = idle.total_seconds()
        self._again = again
        self._bell = asyncio.Event()
        self._active: dict[asyncio.Task[None], int] = {}

    def ring(self) -> None:
        """There is work: look now."""
        self._bell.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Go round until `stopping` is set. What is under way then is left to `drain`."""
        backoff = _SHORTEST_BACKOFF_SECONDS
        while not stopping.is_set():
            self._bell.clear()
            try:
                more = await self._round()
            except UNREACHABLE as error:
                log.warning("loop.database_away", loop=self._name, error=type(error).__name__, retry_in=backoff)
            except Exception:
                # A loop that dies is an outage; a loop that says so and goes on is a bug report.
                metrics.LOOP_FAILURES.labels(self._name).inc()
                log.exception("loop.failed", loop=self._name, retry_in=backoff)
            else:
                backoff = _SHORTEST_BACKOFF_SECONDS
                if not more:
                    soon = self._again()
                    idle = self._idle_seconds if soon is None else soon.total_seconds()
                    await self._wait(idle * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                continue
            await self._wait(backoff)
            backoff = min(backoff * 2, _LONGEST_BACKOFF_SECONDS)

    async def _round(self) -> bool:
        """Claim once. True when there may be more to claim at once."""
        free = self._slots - sum(self._active.values())
        limit = min(free, self._batch)
        if limit <= 0:
            return False
        claimed = await self._claim(limit)
        for items in [claimed] if self._together and claimed else [[item] for item in claimed]:
            task = asyncio.create_task(self._do(items), name=f"{self._name} x {len(items)}")
            self._active[task] = len(items)
            task.add_done_callback(self._ended)
        return len(claimed) == limit

    async def _do(self, claimed: Sequence[T]) -> None:
        try:
            await self._work(claimed)
        except UNREACHABLE as error:
            # The leases run out and the items come due again: nothing is lost.
            log.warning("loop.database_away", loop=self._name, error=type(error).__name__, items=len(claimed))
        except Exception:
            metrics.LOOP_FAILURES.labels(self._name).inc()
            log.exception("loop.failed", loop=self._name, items=len(claimed))

    def free(self, count: int) -> None:
        """So many of the batch that this is called in are done with; their slots need not wait for the others."""
        task = asyncio.current_task()
        if task in self._active:
            self._release(task, count)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._release(task, self._active[task])
        del self._active[task]

    def _release(self, task: asyncio.Task[None], count: int) -> None:
        full = sum(self._active.values()) >= self._slots
        self._active[task] = max(0, self._active[task] - count)
        if full and count:
            self._bell.set()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            return

    async def drain(self, seconds: float) -> int:
        """Wait for what is under way, then cut it off. Returns how many batches were cut; their leases run out."""
        if not self._active:
            return 0
        _, late = await asyncio.wait(list(self._active), timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)
