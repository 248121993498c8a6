"""The text of a generation while it is made: rows of `generation_chunks`, which `worker/streams.py` writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from shared import sql
from shared.database import Connection
from shared.generations import State, Type

_SQL = sql.load(__file__)

MAXIMUM_TEXT_CHARACTERS = 200_000
"""The longest text that we keep."""
MAXIMUM_CHUNKS = 10_000
"""Of one attempt. A look writes one chunk, and there are at most five a second."""


def is_arriving(generation_type: Type, state: State) -> bool:
    """Whether a text may grow now."""
    return generation_type is Type.TEXT and state in (State.SUBMITTED, State.RUNNING, State.FINISHING)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text; one that `replaces` is all of it."""

    generation_id: UUID
    seq: int
    text: str
    replaces: bool


async def text(connection: Connection, generation_id: UUID, *, attempt: int | None = None) -> str:
    """The text so far, or what there is of it of one attempt."""
    found: str | None = await connection.fetchval(_SQL["text"], generation_id, attempt)
    return found or ""


async def since(connection: Connection, heard: Mapping[UUID, int]) -> list[Chunk]:
    """What came of each generation's pursued attempt after the `seq` that was heard of it last, in order."""
    rows = await connection.fetch(_SQL["since"], list(heard), list(heard.values()))
    return [Chunk(row["generation_id"], row["seq"], row["text"], row["replaces"]) for row in rows]
