"""Leases: who has which due row for a while. No state changes here; what its holder does stands in `transitions.py`.

A lease is `lease_token` with `due_at` as its end: nobody else takes the row meanwhile, and every write compares the
token. Work that may outlast its lease keeps it (`kept`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import structlog

from shared import sql
from shared.database import UNREACHABLE, Connection
from shared.generations import Generation
from worker.context import Context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_SQL = sql.load(__file__)

Owner = Literal["finish", "texts", "sweep"]
"""Whose turn a due row is: finishing · submitting whose lease or grace is over. Polls are claimed by `claim_polls`."""


@dataclass(frozen=True, slots=True)
class DuePolls:
    """How many polls are due at an endpoint, and how many of them are of jobs that a webhook or a cancel spoke of."""

    polls: int
    heard: int


async def claim_due(
    connection: Connection,
    *,
    owner: Owner,
    lease_token: UUID,
    lease: timedelta,
    limit: int,
    now: datetime | None = None,
) -> list[Generation]:
    """Lease up to `limit` due generations of one owner. No state changes."""
    return await _claim(connection, f"claim_due_{owner}", lease_token, lease, limit, now)


async def due_polls(connection: Connection, *, limit: int, now: datetime | None = None) -> dict[str, DuePolls]:
    """How many polls are due at each endpoint; no more than `limit` are counted for one."""
    rows = await connection.fetch(_SQL["due_polls"], limit, now)
    return {row["endpoint_id"]: DuePolls(row["polls"], row["heard"]) for row in rows}


async def claim_polls(
    connection: Connection,
    *,
    lease_token: UUID,
    lease: timedelta,
    places: Mapping[str, int],
    now: datetime | None = None,
) -> list[Generation]:
    """Lease polls of each endpoint, as many as it has places: what was heard of, then the longest due. No change."""
    return await _claim(connection, "claim_polls", lease_token, lease, list(places), list(places.values()), now)


async def _claim(connection: Connection, statement: str, *arguments: Any) -> list[Generation]:
    return [Generation.from_row(row) for row in await connection.fetch(_SQL[statement], *arguments)]


async def about_to_send(
    connection: Connection, generation: Generation, *, lease: timedelta, fresh: timedelta, now: datetime | None = None
) -> timedelta | None:
    """How long ago it was claimed, just before RunPod is called; its lease is whole again when that was not just now.

    None when the lease is somebody else's by now: then nothing may be sent.
    """
    age: timedelta | None = await connection.fetchval(
        _SQL["about_to_send"], generation.id, generation.lease_token, lease, fresh, now
    )
    return age


async def renew(connection: Connection, generation: Generation, *, lease: timedelta) -> bool:
    """Keep a lease for longer. False when it is somebody else's by now."""
    return bool(await connection.fetchval(_SQL["renew"], generation.id, generation.lease_token, lease))


async def reschedule(
    connection: Connection,
    *,
    lease_token: UUID,
    waits: Mapping[UUID, tuple[timedelta, str | None]],
    now: datetime | None = None,
) -> None:
    """Give leases back: each generation is due again after its wait; progress is kept when there is some."""
    await connection.execute(
        _SQL["reschedule"],
        lease_token,
        list(waits),
        [wait for wait, _ in waits.values()],
        [progress for _, progress in waits.values()],
        now,
    )


def claimed_at(context: Context, generation: Generation) -> datetime:
    """When a claimed generation was claimed, by the database's clock: ours may be wrong, and deadlines are its own."""
    if generation.due_at is None:
        msg = f"generation {generation.id} is not claimed"
        raise ValueError(msg)
    return generation.due_at - context.settings.lease


def is_past(context: Context, generation: Generation, moment: datetime | None, *, by: timedelta = timedelta(0)) -> bool:
    """Whether a moment was over, by so much, when the generation was claimed."""
    return moment is not None and claimed_at(context, generation) - moment >= by


@asynccontextmanager
async def kept(context: Context, generation: Generation) -> AsyncIterator[None]:
    """Renew the lease of a claimed generation every third of it, until the block ends or the lease is lost."""
    renewing = asyncio.create_task(_renew(context, generation), name=f"lease of {generation.id}")
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(context: Context, generation: Generation) -> None:
    lease = context.settings.lease
    while True:
        await asyncio.sleep(lease.total_seconds() / 3)
        try:
            async with context.pool.acquire() as connection:
                if not await renew(connection, generation, lease=lease):
                    return  # lost: every write is fenced, so the work may end by itself
        except UNREACHABLE as error:
            log.warning("lease.database_away", generation_id=str(generation.id), error=type(error).__name__)
