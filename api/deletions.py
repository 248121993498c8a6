"""Deleting a generation, with time to think again: it is hidden at once, and erased after a while by `worker/purge.py`.

Nothing about money changes: what was charged stays charged, and the statement keeps its lines.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.auth import SignedIn
from api.generations import look
from api.replies import GenerationReply
from api.state import State, state_of
from shared import sql
from shared.errors import Conflict, NotFound

_SQL = sql.load(__file__)

router = APIRouter(tags=["generations"])


class DeletionUrls(TypedDict):
    """The way back."""

    restore: str


class DeletionReply(TypedDict):
    """A deleted generation: until `purge_at` it can be restored, after that nothing can bring it back."""

    id: UUID
    deleted_at: datetime
    purge_at: datetime
    urls: DeletionUrls


@router.delete("/v1/generations/{generation_id}", operation_id="deleteGeneration", response_model=DeletionReply)
async def delete_generation(request: Request, person: SignedIn, generation_id: UUID) -> Response:
    """Delete a generation that has ended, with its media. Repeating it changes nothing."""
    return replies.json_response(await delete(state_of(request), generation_id, user_id=person.user_id))


async def delete(state: State, generation_id: UUID, *, user_id: str) -> DeletionReply:
    """Hide a person's generation, and have it erased when the time to think again is over.

    Raises:
        NotFound: there is none of this id, it is somebody else's, or it is being erased already.
        Conflict: it is still on its way.
    """
    own = replies.address(state.settings.public_url, generation_id)
    async with state.connection() as connection:
        row = await connection.fetchrow(_SQL["delete"], generation_id, user_id, state.settings.delete_after)
    if row is None:
        async with state.reading_as(user_id) as connection:
            row = await connection.fetchrow(_SQL["standing"], generation_id, user_id)
    if row is None:
        raise NotFound("There is no generation of this id.")
    if row["deleted_at"] is None:
        facts: dict[str, Any] = {"generation_status": row["state"], "urls": {"cancel": f"{own}/cancel"}}
        raise Conflict(f"This generation is {row['state']}: cancel it first, then delete it.", **facts)
    return {
        "id": generation_id,
        "deleted_at": row["deleted_at"],
        "purge_at": row["purge_due_at"],
        "urls": {"restore": f"{own}/restore"},
    }


@router.post(
    "/v1/generations/{generation_id}/restore", operation_id="restoreGeneration", response_model=GenerationReply
)
async def restore_generation(request: Request, person: SignedIn, generation_id: UUID) -> Response:
    """Take a deletion back while there is time. Repeating it changes nothing."""
    return replies.json_response(await restore(state_of(request), generation_id, user_id=person.user_id))


async def restore(state: State, generation_id: UUID, *, user_id: str) -> GenerationReply:
    """Show a person's generation again, as it was.

    Raises:
        NotFound: there is none of this id, it is somebody else's, or it is too late.
    """
    async with state.connection() as connection:
        await connection.fetchval(_SQL["restore"], generation_id, user_id)
    return await look(state, generation_id, user_id=user_id)
