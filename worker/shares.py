"""How much one worker asks of an endpoint at once: its share of what RunPod takes of all of us (runpod.md 1.6).

Every worker says in `workers` that it lives and how large its share is, every few seconds. Shares are agreed on, and
not leased call by call: that would be two writes for every request. A worker that finds others takes less at once, and
says so when what it has under way has become as little; only then do the others take more. One twentieth is nobody's,
so that a newcomer can begin before the others have made room. Who is silent for a lease is dead, and its share free:
its calls were shorter than that. So whoever could not say so for a part of a lease, for want of Postgres or of time to
run, begins no call until it has agreed again.
"""

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from shared import sql
from shared.database import Pool

_SQL = sql.load(__file__)

AT_ONCE = {"run": 200, "status": 400, "stream": 400, "cancel": 20}
"""Requests at once to one endpoint, of all workers together."""
BEATS_A_LEASE = 10
_GOOD_FOR = 1 / 4
"""Of a lease: how long a share is good for. A call that begins just before that ends within the lease."""
_USED = 0.95
_WAIT_SECONDS = 2
_NEAR = 1e-9


class Shares:
    """What this process has under way at each endpoint, and how much it may have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """All there is, until the first beat says who else lives."""
        self.worker_id: UUID = uuid4()
        self._clock = clock
        self._good_until = math.inf
        self._share = 1.0
        self._number, self._workers = 0, 1
        self._under_way: dict[tuple[str, str], int] = defaultdict(int)
        self._room = asyncio.Condition()

    def limit(self, operation: str) -> int:
        """How many requests of this kind may be under way at one endpoint.

        Where there are as many workers as RunPod takes requests, or more, the first of them may make one each.
        """
        if self._clock() >= self._good_until:
            return 0
        most = AT_ONCE[operation]
        return max(int(most * self._share + _NEAR), int(self._number < most <= self._workers))

    def room(self, endpoint_id: str, operation: str) -> int:
        """How many more may begin now."""
        return max(0, self.limit(operation) - self._under_way[endpoint_id, operation])

    def under_way(self, operation: str) -> dict[str, int]:
        """How many requests of this kind are under way at each endpoint."""
        return {endpoint_id: count for (endpoint_id, of), count in self._under_way.items() if of == operation and count}

    @contextlib.asynccontextmanager
    async def one(self, endpoint_id: str, operation: str) -> AsyncIterator[bool]:
        """Have one request under way. False when there is no room in a while: then it may not begin."""
        key, began = (endpoint_id, operation), False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS), self._room:
                await self._room.wait_for(lambda: self._under_way[key] < self.limit(operation))
                self._under_way[key] += 1
                began = True
        try:
            yield began
        finally:
            if began:
                self._under_way[key] -= 1
                async with self._room:
                    self._room.notify_all()

    async def beat(self, pool: Pool, *, lease: timedelta, now: datetime | None = None) -> float:
        """Say that this worker lives, and agree on its share; returns it."""
        began = self._clock()
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL["lock"])
            await connection.execute(_SQL["bury"], lease, now)
            others = await connection.fetchrow(_SQL["others"], self.worker_id, lease, now)
            workers, taken = (others["workers"], others["share"]) if others else (0, 0.0)
            fair, free = _USED / (workers + 1), max(0.0, 1 - taken)
            share = fair if fair <= free + _NEAR else free / 2
            self._share = min(self._share, share)
            self._number = await connection.fetchval(_SQL["beat"], self.worker_id, max(share, self._used()), now)
        self._workers = workers + 1
        self._share = share  # more only after the commit: nobody else can take it now
        self._good_until = began + _GOOD_FOR * lease.total_seconds()
        async with self._room:
            self._room.notify_all()
        return share

    async def leave(self, pool: Pool) -> None:
        """This worker ends: the others need not wait for its lease."""
        async with pool.acquire() as connection:
            await connection.execute(_SQL["leave"], self.worker_id)

    def _used(self) -> float:
        """The share that is under way, whatever it should be."""
        return max((count / AT_ONCE[operation] for (_, operation), count in self._under_way.items()), default=0.0)
