"""`GET /v1/generations/{id}/events`: its transitions, its text and its place in line, as server-sent events.

Transitions and text are rows: `transition` of `generation_transitions`, its id the version; `chunk` of
`generation_chunks`, its id the version and the number of the chunk (`4.17`). A `text` is a chunk that takes the place
of all before it. Ids are one durable order, so whoever comes back with `Last-Event-ID` or `?starting_after=` misses
nothing and hears nothing twice. The stream ends after the terminal state; a client that comes back after that gets 204,
which tells an EventSource to stop. `queue`: where it stands and how long it takes still, whenever its place in line
changed, and every 5 s at most when the time did (`api/places.py` says by how much); without an id, since where it stood
is of no use to whoever comes back.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from api import history, replies
from api.auth import SignedIn
from api.estimates import Queue
from api.history import Moment
from api.hub import Listener
from api.metrics import EVENT_STREAMS
from api.places import Told, news
from api.state import State, state_of
from shared import generations
from shared.database import UNREACHABLE
from shared.errors import NotFound
from shared.generations import Generation
from shared.generations import State as Status

COMMENT_SECONDS = 15
MAXIMUM_AGE_SECONDS = 15 * 60
"""Then the stream ends and the client comes back with its last id; sessions expire meanwhile."""
RETRY_MILLISECONDS = 1000
_ID = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Nobody on the way may keep or hold back a stream."""

router = APIRouter(tags=["generations"])
Heard = Annotated[
    str | None,
    Query(pattern=f"^{_ID.pattern}$", description="The id of the last event that was heard, as `4` or `4.17`"),
]


@router.get(
    "/v1/generations/{generation_id}/events",
    operation_id="followGeneration",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Transitions, chunks of text, and places in line with the time left",
        },
        204: {"description": "It has ended, and you have heard everything"},
    },
)
async def follow_generation(
    request: Request,
    person: SignedIn,
    generation_id: UUID,
    starting_after: Heard = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The transitions of one generation, and its text while it is made, after an event; live until it ends.

    `queue` is told when its place in line changed, and every 5 s at most when the time left did: by more than a tenth
    and more than a second.
    """
    state = state_of(request)
    after = heard_until(last_event_id, starting_after)
    async with state.reading_as(person.user_id) as connection:
        found = await generations.get(connection, generation_id, user_id=person.user_id)
    if found is None:
        raise NotFound("There is no generation of this id.")
    if found.state.terminal and after >= Moment(found.version):
        return Response(status_code=204)
    state.hub.expect_room(person.user_id)
    EVENT_STREAMS.inc()

    async def stream() -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        if not state.hub.has_room(person.user_id):
            return  # others of theirs came at the same moment; the client comes back, and is told so
        with state.hub.listen(person.user_id) as listener:
            async for chunk in _events(state, listener, generation_id, user_id=person.user_id, after=after):
                yield chunk

    return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)


def heard_until(last_event_id: str | None, starting_after: str | None) -> Moment:
    """The event after which to go on; Last-Event-ID is the more recent of the two, so it wins. Nonsense is none."""
    for told in (last_event_id, starting_after):
        found = _ID.fullmatch(told) if told is not None else None
        if found is not None:
            return Moment(int(found[1]), int(found[2] or 0))
    return Moment()


async def _events(
    state: State, listener: Listener, generation_id: UUID, *, user_id: str, after: Moment
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    end = clock() + MAXIMUM_AGE_SECONDS
    spoke = clock()
    places = Places()
    while clock() < end and not state.hub.closing:
        try:
            async with state.reading_as(user_id) as connection:
                happened = await history.happenings(connection, generation_id, user_id=user_id, after=after)
                found = await generations.get(connection, generation_id, user_id=user_id)
            moved = await places.moved(state, [found] if found is not None else [])
        except UNREACHABLE:
            return  # the client comes back with its last id
        for row in happened:
            yield event(row, generation_id)
            after, spoke = Moment(row["version"], row["seq"]), clock()
        if happened and after.seq == 0 and Status(happened[-1]["to_state"]).terminal:
            return  # at its end, not at the end of a round that another one followed
        for place in moved:
            yield place
            spoke = clock()
        if clock() - spoke >= COMMENT_SECONDS:
            yield b": still here\n\n"
            spoke = clock()
        if len(happened) < history.HAPPENINGS_LIMIT:
            await listener.wait()


def event(row: asyncpg.Record, generation_id: UUID) -> bytes:
    """One transition or chunk as a server-sent event, its place in their order the id."""
    place = Moment(row["version"], row["seq"])
    if place.seq == 0:
        name, said = "transition", dict(replies.transition_reply(row))
    else:
        name = "text" if row["replaces"] else "chunk"
        said = {"version": place.version, "seq": place.seq, "at": row["at"], "text": row["text"]}
    data = replies.dump({"generation_id": generation_id, **said})
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (str(place).encode(), name.encode(), data)


class Places:
    """The places in line, and the times left, that one stream has told of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """None yet."""
        self._clock = clock
        self._told: dict[UUID, Told] = {}

    async def moved(self, state: State, open_ones: Sequence[Generation]) -> list[bytes]:
        """An event for each of these of which there is news since the last look; of the others nothing is kept."""
        queues, now = await state.queues(open_ones), self._clock()
        fresh = news(self._told, queues, now=now)
        kept = {key: told for key, told in self._told.items() if key in queues}
        self._told = {**kept, **{key: Told(queues[key], now) for key in fresh}}
        return [_queue_event(key, queues[key]) for key in fresh]


def _queue_event(generation_id: UUID, queue: Queue) -> bytes:
    return b"event: queue\ndata: %s\n\n" % replies.dump({"generation_id": generation_id, **queue})
