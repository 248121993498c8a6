"""Texts that grow on a page while they are made: what of each was sent, and what comes next.

A card that is rendered anew carries the whole text so far; between, only what came is sent, to be added at its end. Who
comes back gets every open card anew, so that nothing is missing and nothing doubled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from api.replies import GenerationReply
from shared import chunks
from shared.chunks import Chunk, is_arriving
from shared.database import Connection
from shared.generations import Generation


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came since the last look: whole texts for cards that are rendered anew, additions for the others."""

    texts: dict[UUID, str]
    additions: Sequence[Chunk]
    begun: int
    """How many texts began."""


@dataclass(slots=True)
class Arrivals:
    """The texts that one stream sees grow."""

    _heard: dict[UUID, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._heard)

    def has(self, generation_id: UUID) -> bool:
        """Whether something of it is here already."""
        return self._heard.get(generation_id, 0) > 0

    async def look(self, connection: Connection, fresh: Iterable[Generation]) -> Arrived:
        """What came; the cards of `fresh` are about to be rendered anew."""
        anew = set()
        for generation in fresh:
            if is_arriving(generation.type, generation.state):
                anew.add(generation.id)
            else:
                self._heard.pop(generation.id, None)
        before = {generation_id: seq for generation_id, seq in self._heard.items() if generation_id not in anew}
        came = await chunks.since(connection, {**before, **dict.fromkeys(anew, 0)}) if before or anew else []
        begun = {chunk.generation_id for chunk in came if not self._heard.get(chunk.generation_id)}
        self._heard.update(dict.fromkeys(anew, 0))  # of a text that is tried again, chunks are counted anew
        self._heard.update({chunk.generation_id: chunk.seq for chunk in came})
        return Arrived(
            texts=joined(chunk for chunk in came if chunk.generation_id in anew),
            additions=[chunk for chunk in came if chunk.generation_id in before],
            begun=len(begun),
        )


def joined(came: Iterable[Chunk]) -> dict[UUID, str]:
    """The text of each generation from its chunks, in order."""
    texts: dict[UUID, list[str]] = {}
    for chunk in came:
        parts = texts.setdefault(chunk.generation_id, [])
        if chunk.replaces:
            parts.clear()
        parts.append(chunk.text)
    return {generation_id: "".join(parts) for generation_id, parts in texts.items()}


async def fill_in(connection: Connection, listed: Sequence[GenerationReply]) -> None:
    """Give the replies of open texts what there is of them."""
    awaited = [reply for reply in listed if is_arriving(reply["type"], reply["status"])]
    if not awaited:
        return
    texts = joined(await chunks.since(connection, {reply["id"]: 0 for reply in awaited}))
    for reply in awaited:
        reply["text_so_far"] = texts.get(reply["id"])
