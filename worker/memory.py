"""How much of RunPod's answers, of sources and of outputs is in memory at once, over everything that this worker does.

Each pool is a budget in bytes. Whoever needs several takes them in the order of `Memory`'s fields, one share of each,
so that nobody holds what another waits for in a ring:

- a poll has one of `answers` once it reads more than a little, and of `giants` when the answer proves larger than it
  was taken to be; it gives both back when the answer is stored. Who has the giants' share waits for RunPod and for
  Postgres, never for memory, and both have timeouts. A look at a stream does the same.
- a finish has `answers`, then `media`, then `pixels`. It waits for its answer with nothing in hand but its lease.
- a submit has one of `answers` for the picture that it sends.

Nobody waits for memory with a connection to Postgres in hand, for those who have memory wait for connections.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from worker.answers import MAXIMUM_ANSWER_BYTES
from worker.media import MAXIMUM_MEDIUM_BYTES, MAXIMUM_PIXELS

COPIES_OF_ANSWER = 3
"""RunPod's answer as it came, as text, and decoded."""
COPIES_OF_SOURCE = 6
"""A picture that is sent along: its bytes, as base64, as an address, and all of that as the request."""
COPIES_OF_MEDIUM = 2
"""A fetched medium while its pieces are put together, or while the store sends it."""
BYTES_PER_PIXEL = 8
"""A picture while a thumbnail is made of it: decoded, and once more with its transparency multiplied in."""
PATIENCE_SECONDS = 5
"""How long a call waits for memory: together with the call itself less than the lease of 30 s."""


class NoRoom(TimeoutError):
    """There was no memory in time. Whoever wanted it comes again."""


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
    async def hold(self, wanted: int, *, patience: float | None = None) -> AsyncIterator[None]:
        """Have so many bytes of the budget; more than all of it is all of it.

        Raises:
            NoRoom: it was not our turn within `patience` seconds.
        """
        share = min(wanted, self._total)
        try:
            async with asyncio.timeout(patience):
                await self._take(share)
        except TimeoutError as error:
            raise NoRoom from error
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
    """What one worker may have in memory of what others send: 936 MiB at the very worst, however many slots it has.

    That takes the largest answers, files and pictures that are let in, all at once; a picture of 1024 x 1024 takes 12.
    """

    answers: Pool = field(default_factory=lambda: Pool(COPIES_OF_ANSWER * MAXIMUM_ANSWER_BYTES))
    giants: Pool = field(default_factory=lambda: Pool(COPIES_OF_ANSWER * MAXIMUM_ANSWER_BYTES))
    media: Pool = field(default_factory=lambda: Pool(2 * COPIES_OF_MEDIUM * MAXIMUM_MEDIUM_BYTES))
    pixels: Pool = field(default_factory=lambda: Pool(BYTES_PER_PIXEL * MAXIMUM_PIXELS))

    @asynccontextmanager
    async def room(self) -> AsyncIterator["Room"]:
        """Room for one answer, taken while it is read and given back at the end of the block."""
        async with AsyncExitStack() as held:
            yield Room(self, held)


class Room:
    """What one answer has of the memory: a share for what it is taken to be, and the giants' when it is more."""

    def __init__(self, memory: Memory, held: AsyncExitStack) -> None:
        """Nothing yet; what is taken is on `held`."""
        self._pools = iter((memory.answers, memory.giants))
        self._held = held

    async def widen(self, size: int) -> None:
        """Have room for so many bytes. The second time it is the giants' turn, which is one answer's at a time.

        Raises:
            NoRoom: others have it.
        """
        pool = next(self._pools)
        await self._held.enter_async_context(pool.hold(COPIES_OF_ANSWER * size, patience=PATIENCE_SECONDS))
