"""Time as the platform sees it: a clock that tests can turn by hand, timers that hang on it, and a way to wait."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since any fixed moment; only differences count."""


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. What became due happens at the platform's next call or `tick()`."""
        self.now += seconds


class Timers:
    """Actions to be done once the clock has passed a moment; nothing runs by itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have `action` done at the first `run_due()` that is `seconds` or more from now."""
        heapq.heappush(self._due, (self._clock() + seconds, next(self._order), action))

    def run_due(self) -> None:
        """Do everything that is due, in order of its moment."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()


class Pulse:
    """Wakes everybody who waits for something to change; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def watched(self) -> bool:
        """Whether anybody waits now."""
        return bool(self._waiting)

    def beat(self) -> None:
        """Wake all who wait now."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Return at the next beat, or after `seconds` of real time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            self._waiting.discard(future)
