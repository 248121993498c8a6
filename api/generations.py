"""The routes of generations: submit, list, look at one, cancel."""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from api import history, replies
from api.auth import SignedIn
from api.bodies import json_only
from api.cursors import read_cursor, write_cursor
from api.errors import BUSY, request_id
from api.history import Filter, Priced
from api.idempotency import read_key
from api.orders import AnyOrder
from api.replies import GenerationReply
from api.state import State, state_of
from api.submit import Receipt, finish, submit
from shared import chunks, generations, ledger
from shared.database import UNREACHABLE
from shared.errors import Conflict
from shared.generations import State as Status
from shared.generations import Type

PAGE_LIMIT = 100
PAGE_DEFAULT = 20
CURSOR_CHARACTERS = 300
WAIT_LIMIT_SECONDS = 30
_WAIT = re.compile(r"(?:^|[,;]\s*|\s)wait=(\d{1,6})(?=$|[\s,;])")

_FINISHED = {
    "model": GenerationReply,
    "description": "Finished while you waited (Prefer: wait); repeats with the same Idempotency-Key get this again",
}

router = APIRouter(tags=["generations"])


class GenerationPage(TypedDict):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[GenerationReply]
    has_more: bool
    next_cursor: str | None


class ListQuery(BaseModel):
    """Which generations, and how many at once. Several types or statuses: repeat the parameter."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS)] | None = None
    type: Annotated[list[Type], Field(max_length=len(Type))] = []
    status: Annotated[list[Status], Field(max_length=len(Status))] = []

    def filter(self) -> Filter:
        """The filters in an order of their own, so that the same ones always make the same cursor."""
        return Filter(tuple(sorted(set(self.type))), tuple(sorted(set(self.status))))


@router.post(
    "/v1/generations",
    operation_id="createGeneration",
    status_code=202,
    dependencies=[Depends(json_only)],
    responses={201: _FINISHED},
    response_model=GenerationReply,
)
@router.post(
    "/api/generate-with-tracking",
    operation_id="createGenerationWithTracking",
    status_code=202,
    dependencies=[Depends(json_only)],
    responses={201: _FINISHED},
    response_model=GenerationReply,
)
async def create(
    request: Request,
    person: SignedIn,
    order: AnyOrder,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 visible ASCII; kept for 30 days")] = None,
    prefer: Annotated[str | None, Header(description="wait=N: wait up to N seconds (30 at most) for the end")] = None,
) -> Response:
    """Reserve credits and put a generation on its way: 202 at once, 201 when it ended within `Prefer: wait`.

    A repeat with the same Idempotency-Key does not wait: it gets the reply that was given, status and body.
    """
    state = state_of(request)
    receipt = await submit(
        state, order, user_id=person.user_id, key=read_key(idempotency_key), request_id=request_id(request)
    )
    seconds = 0 if receipt.replayed else wait_seconds(prefer)
    if seconds > 0:
        # What was accepted stays accepted, whatever becomes of the wait.
        with contextlib.suppress(*UNREACHABLE, *BUSY):
            finished = await wait_for_end(state, receipt.generation_id, user_id=person.user_id, seconds=seconds)
            if finished is not None:
                receipt = await finish(state, receipt, replies.dump(finished))
    return _receipt_response(state, receipt, waited=seconds)


def _receipt_response(state: State, receipt: Receipt, *, waited: int) -> Response:
    headers = {"Location": replies.address(state.settings.public_url, receipt.generation_id)}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    if waited > 0:
        headers["Preference-Applied"] = f"wait={waited}"
    return Response(receipt.body, receipt.status, headers=headers, media_type="application/json")


def wait_seconds(prefer: str | None) -> int:
    """How long a Prefer header asks to wait, at most `WAIT_LIMIT_SECONDS`; 0 without one (RFC 7240: else ignored)."""
    found = _WAIT.search(prefer) if prefer else None
    return min(int(found[1]), WAIT_LIMIT_SECONDS) if found else 0


async def wait_for_end(state: State, generation_id: UUID, *, user_id: str, seconds: float) -> GenerationReply | None:
    """The reply of a generation as soon as it ends; None when it has not within `seconds`, or too many wait."""
    if not state.hub.has_room(user_id):
        return None
    deadline = asyncio.get_running_loop().time() + seconds
    with state.hub.listen(user_id) as listener:
        while True:
            async with state.reading_as(user_id) as connection:
                found = await generations.get(connection, generation_id, user_id=user_id)
            if found is None:
                return None
            if found.state.terminal:
                return await look(state, generation_id, user_id=user_id)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or state.hub.closing:
                return None
            await listener.wait(min(left, 1.0))


@router.get("/v1/generations", operation_id="listGenerations", response_model=GenerationPage)
async def list_generations(request: Request, person: SignedIn, query: Annotated[ListQuery, Query()]) -> Response:
    """A person's generations, newest first."""
    state = state_of(request)
    page = await list_page(state, user_id=person.user_id, wanted=query.filter(), cursor=query.cursor, limit=query.limit)
    return replies.json_response(page, headers=_links(state, query, page["next_cursor"]))


def _links(state: State, query: ListQuery, next_cursor: str | None) -> dict[str, str]:
    if next_cursor is None:
        return {}
    wanted = query.filter()
    parameters = [("type", t.value) for t in wanted.types] + [("status", s.value) for s in wanted.states]
    parameters += [("limit", str(query.limit)), ("cursor", next_cursor)]
    return {"Link": f'<{state.settings.public_url}/v1/generations?{urlencode(parameters)}>; rel="next"'}


async def list_page(state: State, *, user_id: str, wanted: Filter, cursor: str | None, limit: int) -> GenerationPage:
    """One page of a person's generations, newest first.

    Raises:
        InvalidCursor: the cursor is not from here, or from another list.
    """
    scope = [user_id, wanted.types, wanted.states]
    after = read_cursor(state.cursors, cursor, scope=scope) if cursor is not None else None
    async with state.reading_as(user_id) as connection:
        found, following = await history.page(connection, user_id=user_id, wanted=wanted, after=after, limit=limit)
    return {
        "data": await _shown(state, found),
        "has_more": following is not None,
        "next_cursor": write_cursor(state.cursors, following, scope=scope) if following is not None else None,
    }


async def _shown(state: State, found: Sequence[Priced]) -> list[GenerationReply]:
    public_url = state.settings.public_url
    queues = await state.queues(item.generation for item in found)
    return [
        replies.generation_reply(
            item.generation,
            cost=item.cost,
            storage=state.storage,
            public_url=public_url,
            queue=queues.get(item.generation.id),
        )
        for item in found
    ]


@router.get("/v1/generations/{generation_id}", operation_id="getGeneration", response_model=GenerationReply)
async def get_generation(request: Request, person: SignedIn, generation_id: UUID) -> Response:
    """One generation with every transition."""
    return replies.json_response(await look(state_of(request), generation_id, user_id=person.user_id))


async def look(state: State, generation_id: UUID, *, user_id: str) -> GenerationReply:
    """Everything about a person's generation.

    Raises:
        NotFound: there is none of this id, or it is somebody else's.
    """
    async with state.reading_as(user_id) as connection:
        found = await history.one(connection, generation_id, user_id=user_id)
        balance = await ledger.balance(connection, user_id=user_id)
        changes = await history.transitions(connection, generation_id, user_id=user_id)
        arriving = chunks.is_arriving(found.generation.type, found.generation.state)
        attempt = found.generation.attempt
        text = await chunks.text(connection, generation_id, attempt=attempt) if arriving else None
        last = await history.last_moment(connection, found.generation)
    [reply] = await _shown(state, [found])
    reply["balance"] = replies.balance_reply(balance)
    reply["transitions"] = [replies.transition_reply(row) for row in changes]
    reply["text_so_far"] = text or None
    reply["last_event_id"] = str(last)
    return reply


@router.post(
    "/v1/generations/{generation_id}/cancel",
    operation_id="cancelGeneration",
    status_code=202,
    responses={200: {"model": GenerationReply, "description": "It was cancelled before"}},
    response_model=GenerationReply,
)
async def cancel_generation(request: Request, person: SignedIn, generation_id: UUID) -> Response:
    """Ask for the end of a generation: what is held comes back. Repeating it changes nothing.

    A text that is being shown may be kept and charged as far as it came, marked `partial`: that is the server's policy.
    """
    reply = await cancel(state_of(request), generation_id, user_id=person.user_id)
    return replies.json_response(reply, 200 if reply["status"] is Status.CANCELLED else 202)


async def cancel(state: State, generation_id: UUID, *, user_id: str) -> GenerationReply:
    """Flag a person's generation for cancelling and ring.

    Raises:
        NotFound: there is none of this id, or it is somebody else's.
        Conflict: its result is here already; the reply names its status.
    """
    async with state.connection() as connection:
        flagged = await generations.request_cancel(connection, generation_id, user_id=user_id)
    if flagged is not None:
        await state.tell([flagged])
    reply = await look(state, generation_id, user_id=user_id)
    if flagged is None and reply["status"] is not Status.CANCELLED:
        facts: dict[str, Any] = {"generation_id": str(generation_id), "generation_status": reply["status"].value}
        raise Conflict(f"It is too late to cancel: this generation is {reply['status'].value}.", **facts)
    return reply
