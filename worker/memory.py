"""How much of outputs is in memory at once, over everything that this worker finishes.

Each pool is a budget in bytes. Whoever needs several takes them in the order of `Memory`'s fields, one share of each,
so that nobody holds what another waits for in a ring.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from worker.media import MAXIMUM_MEDIUM_BYTES, MAXIMUM_PIXELS
from worker.runpod import MAXIMUM_ANSWER_BYTES

COPIES_OF_ANSWER = 3
"""RunPod's answer as it came, as text, and decoded."""
COPIES_OF_MEDIUM = 2
"""A fetched medium while its pieces are put together, or while the store sends it."""
BYTES_PER_PIXEL = 8
"""A picture while a thumbnail is made of it: decoded, and once more with its transparency multiplied in."""


class Pool:
    """A budget of bytes, given out in the order in which it was asked for: nobody large is passed by for ever."""

    def __init__(self, total_bytes: int) -> None:
        """All of it is free."""
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def total(self) -> int:
        """The most that is out at once, in bytes."""
        return self._total

    @property
    def free(self) -> int:
        """What nobody holds, in bytes."""
        return self._free

    @asynccontextmanager
    async def hold(self, wanted: int) -> AsyncIterator[None]:
        """Have so many bytes of the budget; more than all of it is all of it."""
        share = min(wanted, self._total)
        await self._take(share)
        try:
            yield
        finally:
            self._give(share)

    async def _take(self, share: int) -> None:
        if not self._waiting and share <= self._free:
            self._free -= share
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled in the moment in which it was our turn: it is the next one's.
            self._give(share if turn.done() and not turn.cancelled() else 0)
            raise

    def _give(self, share: int) -> None:
        self._free += share
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


@dataclass(frozen=True, slots=True)
class Memory:
    """What finishing may have in memory: 840 MiB at the very worst, however many slots it has.

    That takes the largest answers, files and pictures that are let in, all at once; a picture of 1024 x 1024 takes 12.
    """

    answers: Pool = field(default_factory=lambda: Pool(COPIES_OF_ANSWER * MAXIMUM_ANSWER_BYTES))
    media: Pool = field(default_factory=lambda: Pool(2 * COPIES_OF_MEDIUM * MAXIMUM_MEDIUM_BYTES))
    pixels: Pool = field(default_factory=lambda: Pool(BYTES_PER_PIXEL * MAXIMUM_PIXELS))
