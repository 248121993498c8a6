"""`GET /v1/events`: what a person should know wherever they are in the product, as server-sent events.

`warning`: a threshold was crossed; the events are the rows of `credit_warnings` and their ids its own, so whoever comes
back with `Last-Event-ID` or `?starting_after=` misses none and hears none twice. `balance`: what there is now, whenever
it changed. The first balance carries the id from which the stream goes on, so that a client which was cut off before
its first warning misses none either. `queue`: where an open generation stands and how long
it takes still, as in `api/events.py`; of a hundred at most, those that are ready first.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from api import history, replies, warned
from api.auth import SignedIn
from api.credits import refresh
from api.events import COMMENT_SECONDS, HEADERS, MAXIMUM_AGE_SECONDS, RETRY_MILLISECONDS, Places
from api.hub import Listener
from api.metrics import EVENT_STREAMS
from api.replies import BalanceReply
from api.state import State, state_of
from shared import ledger
from shared.credits import Crossing
from shared.database import UNREACHABLE
from shared.generations import Generation

ID_DIGITS = 18
WARNINGS_AT_ONCE = 100
LOOK_SECONDS = 2.0
"""How often to look without word, for when Redis is away or somebody else's act moved the balance."""

router = APIRouter(tags=["credits"])


@router.get(
    "/v1/events",
    operation_id="followAccount",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Warnings, balances, and places in line with the time left",
        }
    },
)
async def follow_account(
    request: Request,
    person: SignedIn,
    starting_after: Annotated[int | None, Query(ge=0, lt=10**ID_DIGITS)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Warnings after an id, or from now on; the balance and places in line as they change. It ends after 15 minutes.

    `queue` is told of a generation when its place changed, and every 5 s at most when the time left did: by more than a
    tenth and more than a second. Of who has more than a hundred open, those that come first are told.
    """
    state = state_of(request)
    await refresh(state, user_id=person.user_id)
    after = await _place(state, _heard(last_event_id, starting_after), user_id=person.user_id)
    state.hub.expect_room(person.user_id)
    EVENT_STREAMS.inc()

    async def stream() -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        if not state.hub.has_room(person.user_id):
            return  # others of theirs came at the same moment; the client comes back, and is told so
        with state.hub.listen(person.user_id) as listener:
            async for chunk in _news(state, listener, user_id=person.user_id, after=after):
                yield chunk

    return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)


def _heard(last_event_id: str | None, starting_after: int | None) -> int | None:
    """What the client has heard of; Last-Event-ID is the more recent of the two. Nonsense is nothing."""
    if last_event_id and last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= ID_DIGITS:
        return int(last_event_id)
    return starting_after


async def _place(state: State, heard: int | None, *, user_id: str) -> int:
    async with state.reading_as(user_id) as connection:
        latest = await warned.latest_id(connection, user_id=user_id)
    return latest if heard is None else min(heard, latest)


async def _news(state: State, listener: Listener, *, user_id: str, after: int) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    end, spoke = clock() + MAXIMUM_AGE_SECONDS, clock()
    told: BalanceReply | None = None
    places = Places()
    while clock() < end and not state.hub.closing:
        try:
            balance, crossings, open_ones = await _look(state, user_id=user_id, after=after)
            moved = await places.moved(state, open_ones)
        except UNREACHABLE:
            return  # the client comes back with its last id
        if balance != told:
            place = b"id: %d\n" % after if told is None else b""
            yield place + b"event: balance\ndata: %s\n\n" % replies.dump(balance)
            told, spoke = balance, clock()
        for crossing in crossings:
            data = replies.dump(warned.warning_reply(crossing))
            yield b"id: %d\nevent: warning\ndata: %s\n\n" % (crossing.warning_id, data)
            after, spoke = crossing.warning_id, clock()
        for chunk in moved:
            yield chunk
            spoke = clock()
        if clock() - spoke >= COMMENT_SECONDS:
            yield b": still here\n\n"
            spoke = clock()
        if len(crossings) < WARNINGS_AT_ONCE:
            await listener.wait(LOOK_SECONDS)


async def _look(state: State, *, user_id: str, after: int) -> tuple[BalanceReply, list[Crossing], list[Generation]]:
    async with state.reading_as(user_id) as connection:
        balance = await ledger.balance(connection, user_id=user_id)
        crossings = await ledger.crossings(connection, user_id=user_id, after=after, limit=WARNINGS_AT_ONCE)
        open_ones = await history.open_ones(connection, user_id=user_id)
    return replies.balance_reply(balance), crossings, open_ones
