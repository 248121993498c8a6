"""A person's generations as rows with their price: one, a page of them, and how one got where it is."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import asyncpg

from api.cursors import Place
from shared import sql
from shared.database import Connection
from shared.errors import NotFound
from shared.generations import Generation, State, Type
from shared.pricing import Cost

_SQL = sql.load(__file__)

TRANSITIONS_LIMIT = 1000
OPEN_LIMIT = 100
HAPPENINGS_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Priced:
    """A generation and the cost that was agreed for it."""

    generation: Generation
    cost: Cost


@dataclass(frozen=True, slots=True)
class Filter:
    """Which generations of a person; empty means all."""

    types: tuple[Type, ...] = ()
    states: tuple[State, ...] = ()


class Moment(NamedTuple):
    """A place in the one order of a generation's transitions (`seq` 0) and chunks."""

    version: int = 0
    seq: int = 0

    def __str__(self) -> str:
        """As the id of an event."""
        return f"{self.version}.{self.seq}" if self.seq else str(self.version)


def _priced(row: asyncpg.Record) -> Priced:
    return Priced(Generation.from_row(row), Cost.from_snapshot(row["price"]))


async def one(connection: Connection, generation_id: UUID, *, user_id: str) -> Priced:
    """A person's generation.

    Raises:
        NotFound: there is none of this id, or it is somebody else's.
    """
    row = await connection.fetchrow(_SQL["with_price"], generation_id, user_id)
    if row is None:
        raise NotFound("There is no generation of this id.")
    return _priced(row)


async def page(
    connection: Connection, *, user_id: str, wanted: Filter, after: Place | None, limit: int
) -> tuple[list[Priced], Place | None]:
    """Up to `limit` generations, newest first, and the place from which to go on; None at the end."""
    rows = await connection.fetch(
        _SQL["page"],
        user_id,
        list(wanted.types or Type),
        list(wanted.states),
        after.created_at if after else None,
        after.id if after else None,
        limit + 1,
    )
    found = [_priced(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return found, None
    last = found[-1].generation
    return found, Place(last.created_at, last.id)


async def open_ones(connection: Connection, *, user_id: str) -> list[Generation]:
    """A person's open generations, those first that are sent first (`OPEN_LIMIT`)."""
    return [Generation.from_row(row) for row in await connection.fetch(_SQL["open_ones"], user_id, OPEN_LIMIT)]


async def transitions(
    connection: Connection, generation_id: UUID, *, user_id: str, after: int = 0
) -> list[asyncpg.Record]:
    """The changes of state of a person's generation after version `after`, oldest first (`TRANSITIONS_LIMIT`)."""
    return await connection.fetch(_SQL["transitions"], generation_id, user_id, after, TRANSITIONS_LIMIT)


async def happenings(
    connection: Connection, generation_id: UUID, *, user_id: str, after: Moment
) -> list[asyncpg.Record]:
    """The changes of state of a person's generation and the chunks of its text after a place (`HAPPENINGS_LIMIT`)."""
    return await connection.fetch(
        _SQL["happenings"], generation_id, user_id, after.version, after.seq, HAPPENINGS_LIMIT
    )


async def last_moment(connection: Connection, generation: Generation) -> Moment:
    """The last of what happened to a generation that was read in the same snapshot."""
    row = await connection.fetchrow(_SQL["last_chunk"], generation.id, generation.user_id)
    return max(Moment(generation.version), Moment(row["version"], row["seq"]) if row else Moment())


async def by_client_reference(connection: Connection, *, user_id: str, client_reference: str) -> UUID | None:
    """The generation that carries this reference of the person's."""
    found: UUID | None = await connection.fetchval(_SQL["by_client_reference"], user_id, client_reference)
    return found
