"""`GET /v1/generations/{id}/events`: its transitions as they happen, as server-sent events, and its place in line.

`transition`: the rows of `generation_transitions`, their ids its versions: whoever comes back with `Last-Event-ID` or
`?starting_after=` misses nothing and hears nothing twice. The stream ends after the terminal state; a client that comes
back after that gets 204, which tells an EventSource to stop. `queue`: where it stands, whenever its place in line
changed; without an id, since where it stood is of no use to whoever comes back.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from api import history, replies
from api.auth import SignedIn
from api.estimates import Queue
from api.hub import Listener
from api.metrics import EVENT_STREAMS
from api.replies import TransitionReply
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
VERSION_LIMIT = 2**31 - 1
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
"""Nobody on the way may keep or hold back a stream."""

router = APIRouter(tags=["generations"])
Version = Annotated[int | None, Query(ge=0, le=VERSION_LIMIT)]


@router.get(
    "/v1/generations/{generation_id}/events",
    operation_id="followGeneration",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Transitions, and places in line",
        },
        204: {"description": "It has ended, and you have heard everything"},
    },
)
async def follow_generation(
    request: Request,
    person: SignedIn,
    generation_id: UUID,
    starting_after: Version = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The transitions of one generation after a version, live until it ends."""
    state = state_of(request)
    after = heard_until(last_event_id, starting_after)
    async with state.reading_as(person.user_id) as connection:
        found = await generations.get(connection, generation_id, user_id=person.user_id)
    if found is None:
        raise NotFound("There is no generation of this id.")
    if found.state.terminal and after >= found.version:
        return Response(status_code=204)
    state.hub.expect_room(person.user_id)
    EVENT_STREAMS.inc()

    async def stream() -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        with state.hub.listen(person.user_id) as listener:
            async for chunk in _events(state, listener, generation_id, user_id=person.user_id, after=after):
                yield chunk

    return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)


def heard_until(last_event_id: str | None, starting_after: int | None) -> int:
    """The version after which to go on; Last-Event-ID is the more recent of the two, so it wins. Nonsense is 0."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10:
        return int(last_event_id)
    return starting_after or 0


async def _events(
    state: State, listener: Listener, generation_id: UUID, *, user_id: str, after: int
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    end = clock() + MAXIMUM_AGE_SECONDS
    spoke = clock()
    places = Places()
    while clock() < end and not state.hub.closing:
        try:
            async with state.reading_as(user_id) as connection:
                changes = await history.transitions(connection, generation_id, user_id=user_id, after=after)
                found = await generations.get(connection, generation_id, user_id=user_id)
            moved = await places.moved(state, [found] if found is not None else [])
        except UNREACHABLE:
            return  # the client comes back with its last id
        told = [replies.transition_reply(row) for row in changes]
        for change in told:
            yield event(change, generation_id)
            after, spoke = change["version"], clock()
        if told and Status(told[-1]["to"]).terminal:
            return  # at its end, not at the end of a round that another one followed
        for chunk in moved:
            yield chunk
            spoke = clock()
        if clock() - spoke >= COMMENT_SECONDS:
            yield b": still here\n\n"
            spoke = clock()
        await listener.wait()


def event(change: TransitionReply, generation_id: UUID) -> bytes:
    """One transition as a server-sent event, its version the id."""
    data = replies.dump({"generation_id": generation_id, **change})
    return b"id: %d\nevent: transition\ndata: %s\n\n" % (change["version"], data)


class Places:
    """The places in line that one stream has told of."""

    def __init__(self) -> None:
        """None yet."""
        self._told: dict[UUID, tuple[int | None, bool]] = {}

    async def moved(self, state: State, open_ones: Sequence[Generation]) -> list[bytes]:
        """An event for each of these whose place changed since the last look; of the others nothing is kept."""
        queues = await state.queues(open_ones)
        places = {key: (queue["position"], queue["held_back"]) for key, queue in queues.items()}
        before, self._told = self._told, places
        return [_queue_event(key, queues[key]) for key, place in places.items() if before.get(key) != place]


def _queue_event(generation_id: UUID, queue: Queue) -> bytes:
    return b"event: queue\ndata: %s\n\n" % replies.dump({"generation_id": generation_id, **queue})
