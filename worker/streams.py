"""The streams of generations and every way they are written: guarded statements in `streams.sql`.

A stream has a lease of its own beside the generation's. A webhook and a cancel take the generation's lease away,
rightly: an answer that was read before them is stale. A drained chunk is never stale, and cannot be read again; it may
only be refused when somebody else drains, or when the generation has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import asyncpg
import orjson

from shared import chunks, sql
from shared.chunks import MAXIMUM_CHUNKS, MAXIMUM_TEXT_CHARACTERS
from shared.database import Connection
from shared.generations import Generation
from worker.chunks import Drained

_SQL = sql.load(__file__)

MAXIMUM_DRAINED_BYTES = 16 * 1024 * 1024
"""Of one attempt, as it came; the text in it is a small part at times."""

Trouble = Literal["interrupted", "gone", "oversized", "superseded", "undrained", "dropped"]
"""Why the chunks of a stream may not be the whole text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One attempt's stream, claimed, and its generation as it was then. `age` counts from the submit."""

    generation: Generation
    attempt: int
    lease_token: UUID
    characters: int
    bytes: int
    chunks: int
    age: timedelta

    @property
    def pursued(self) -> bool:
        """Whether its text is still waited for."""
        return self.attempt == self.generation.attempt and not self.generation.state.terminal

    def takes(self, drained: Drained) -> bool:
        """Whether there is room for what one more look brought."""
        return (
            self.characters + len(drained.text) <= MAXIMUM_TEXT_CHARACTERS
            and self.bytes + len(drained.body) <= MAXIMUM_DRAINED_BYTES
            and self.chunks < MAXIMUM_CHUNKS
        )

    def after(self, drained: Drained) -> "Stream":
        """This stream when that was written."""
        return replace(
            self,
            characters=self.characters + len(drained.text),
            bytes=self.bytes + len(drained.body),
            chunks=self.chunks + 1,
        )


@dataclass(frozen=True, slots=True)
class StreamState:
    """Whether a stream has ended, and whether its chunks may lack something.

    `looked_at`: when somebody first looked for what came last; None while nobody has.
    """

    ended: bool
    looked_at: datetime | None
    trouble: Trouble | None


def _stream(row: asyncpg.Record) -> Stream:
    return Stream(
        generation=Generation.from_row(row),
        attempt=row["stream_attempt"],
        lease_token=row["stream_token"],
        characters=row["characters"],
        bytes=row["bytes"],
        chunks=row["chunks"],
        age=row["age"] or timedelta(0),
    )


async def open_stream(connection: Connection, generation: Generation, *, now: datetime | None = None) -> None:
    """Have the attempt that is pursued drained from now on."""
    await connection.execute(_SQL["open"], generation.id, generation.attempt, generation.user_id, now)


async def claim(
    connection: Connection, *, lease_token: UUID, lease: timedelta, limit: int, now: datetime | None = None
) -> Sequence[Stream]:
    """Lease up to `limit` streams that are due: those first whose job has ended, then everybody's in turn."""
    return [_stream(row) for row in await connection.fetch(_SQL["claim"], lease_token, lease, limit, now)]


async def lock(connection: Connection, generation: Generation) -> None:
    """Have nobody write a chunk until the transaction ends."""
    await connection.execute(_SQL["lock"], generation.id)


async def append(
    connection: Connection, stream: Stream, drained: Drained, *, lease: timedelta, now: datetime | None = None
) -> bool:
    """Write what a look brought, and keep the lease. In a transaction of the caller's; again, it changes nothing.

    False when the stream is somebody else's by now, its generation has ended, or another attempt has its result:
    nothing was written.
    """
    await lock(connection, stream.generation)
    fence = (stream.generation.id, stream.attempt, stream.lease_token)
    brought = (drained.text, drained.body)
    written = await connection.fetchval(_SQL["append"], *fence, *brought, lease, now, stream.chunks)
    return bool(written or await connection.fetchval(_SQL["is_written"], *fence, stream.chunks))


async def renew(connection: Connection, stream: Stream, *, lease: timedelta, now: datetime | None = None) -> bool:
    """Keep the lease for longer. False when it is somebody else's by now."""
    return bool(
        await connection.fetchval(_SQL["renew"], stream.generation.id, stream.attempt, stream.lease_token, lease, now)
    )


async def give_back(
    connection: Connection,
    stream: Stream,
    *,
    wait: timedelta,
    trouble: Trouble | None = None,
    now: datetime | None = None,
) -> None:
    """Let somebody drain it after `wait`."""
    await connection.execute(
        _SQL["give_back"], stream.generation.id, stream.attempt, stream.lease_token, wait, trouble, now
    )


async def end(
    connection: Connection, stream: Stream, *, trouble: Trouble | None = None, now: datetime | None = None
) -> bool:
    """Nothing more will come; the generation's owner looks now. In a transaction of the caller's.

    False when it is somebody else's by now, or was given back: superseded no more, its attempt is pursued again.
    """
    await lock(connection, stream.generation)
    ended = await connection.fetchval(
        _SQL["end"], stream.generation.id, stream.attempt, stream.lease_token, trouble, now
    )
    if ended:
        await hurry_owner(connection, stream.generation, now=now)
    elif trouble == "superseded":
        await give_back(connection, stream, wait=timedelta(0), now=now)
    return bool(ended)


async def hurry_owner(connection: Connection, generation: Generation, *, now: datetime | None = None) -> None:
    """Have the generation's own loop look now: its stream shows that it runs, or has ended."""
    await connection.execute(_SQL["hurry_owner"], generation.id, now)


async def hurry(connection: Connection, generation: Generation, *, now: datetime | None = None) -> None:
    """Have the stream drained before those of others: the job has ended, and its last chunks are waited for."""
    await connection.execute(_SQL["hurry"], generation.id, generation.attempt, now)


async def state(connection: Connection, generation: Generation) -> StreamState | None:
    """How the stream of the pursued attempt stands; None when there is none."""
    row = await connection.fetchrow(_SQL["state"], generation.id, generation.attempt)
    return StreamState(row["ended_at"] is not None, row["looked_at"], row["trouble"]) if row else None


async def others_wait(connection: Connection, *, since: timedelta, now: datetime | None = None) -> bool:
    """Whether a stream has been due for so long, and nobody drains it."""
    return bool(await connection.fetchval(_SQL["others_wait"], since, now))


async def drained(connection: Connection, generation: Generation) -> list[Any]:
    """All that the worker yielded of the pursued attempt, as far as it was drained."""
    rows = await connection.fetch(_SQL["drained"], generation.id, generation.attempt)
    return [output for row in rows for output in orjson.loads(row["body"])]


async def conclude(
    connection: Connection, generation: Generation, text: str | None, *, now: datetime | None = None
) -> bool:
    """End the stream of a leased generation and have its chunks join to `text`. In a transaction of the caller's.

    False when the generation is somebody else's by now: nothing was written.
    """
    await lock(connection, generation)
    fenced = await connection.fetchval(
        _SQL["conclude"], generation.id, generation.attempt, generation.version, generation.lease_token, now
    )
    if not fenced:
        return False
    shown = await chunks.text(connection, generation.id)
    if text is not None and text != shown:
        missing = text.removeprefix(shown)
        replaces = not text.startswith(shown)
        await connection.execute(_SQL["complete_text"], generation.id, missing, replaces, now)
    return True


async def forget(connection: Connection, settled: Generation, *, sold: bool, now: datetime | None = None) -> None:
    """Throw away what has served, and all that was shown of what was not `sold`; in the transaction that settled it."""
    await connection.execute(_SQL["forget"], settled.id, sold, now)
