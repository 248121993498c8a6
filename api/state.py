"""What the API holds while it runs: built once at the edge by `api/app.py`, found by routes through the request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import orjson
from arq.connections import ArqRedis
from fastapi import Request

from api.estimates import Estimates, Queue
from api.hub import Hub
from api.settings import ApiSettings
from api.waiting import InHand, read_own
from shared import events, queue, sql
from shared.database import Connection, Pool
from shared.generations import Generation
from shared.signing import Signer
from shared.storage import Storage

if TYPE_CHECKING:
    import asyncpg

    from api.auth import Verifier

_SQL = sql.load(__file__)

ACQUIRE_SECONDS = 3
"""A request that gets no connection in this time is told to come back: a hung Postgres must not hang its clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The open parts of one API process."""

    settings: ApiSettings
    pool: Pool
    queue: ArqRedis
    storage: Storage
    verifier: Verifier
    hub: Hub
    estimates: Estimates
    cursors: Signer
    quotes: Signer
    webhooks: Signer

    def connection(self) -> asyncpg.pool.PoolAcquireContext[asyncpg.Record]:
        """A connection of the pool, as a context manager.

        Raises:
            TimeoutError: none came free within `ACQUIRE_SECONDS`.
        """
        return self.pool.acquire(timeout=ACQUIRE_SECONDS)

    @contextlib.asynccontextmanager
    async def reading_as(self, user_id: str) -> AsyncIterator[Connection]:
        """A connection that sees what this person may see, in one snapshot, and writes nothing.

        The policies of `…_twin_row_level_security.sql` hold beside the conditions of each statement: one that forgot
        whose rows it is after finds no others.

        Raises:
            TimeoutError: none came free within `ACQUIRE_SECONDS`.
        """
        claims = orjson.dumps({"sub": user_id, "role": "authenticated"}).decode()
        async with self.connection() as connection:
            # Never committed: the pool rolls back what comes back open, also when whoever asked has gone. So the next
            # one to use the connection is the owner again, whatever was set here, a session's setting included.
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(_SQL["become"], claims)
            yield connection

    async def queues(self, generations: Iterable[Generation]) -> dict[UUID, Queue]:
        """Where each of those stands that are open. The lines are everybody's, so they are not read as anybody; what a
        person has in hand is read as that person.

        Raises:
            TimeoutError: no connection came free within `ACQUIRE_SECONDS`.
        """
        waiting = [generation for generation in generations if not generation.state.terminal]
        if not waiting:
            return {}
        own: dict[str, InHand] = {}
        for user_id in {generation.user_id for generation in waiting if generation.held_back}:
            async with self.reading_as(user_id) as connection:
                own[user_id] = await read_own(connection, user_id)
        async with self.connection() as connection:
            return await self.estimates.queues(connection, waiting, own=own, now=datetime.now(UTC))

    async def tell(self, changed: Iterable[Generation], *, ring: bool = True) -> None:
        """After a commit: ring the worker's bell and tell live pages. Never fails, whatever Redis does."""
        generations = tuple(changed)
        for generation in generations:
            self.hub.tell(generation.user_id)
        bells = [queue.ring(self.queue, g.id, version=g.version) for g in generations] if ring else []
        await asyncio.gather(*bells, events.announce(self.queue, generations))


def state_of(request: Request) -> State:
    """The state of the process that serves this request."""
    state: State = request.app.state.twin
    return state
