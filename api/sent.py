"""`GET /ops/generations/{id}`: all that was sent to RunPod for one generation, and how its earlier rounds ended."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.auth import Administrator
from api.exchanges import redacted
from api.state import state_of
from shared import generations, sql
from shared.database import Connection
from shared.errors import NotFound

_SQL = sql.load(__file__)

MAYBE_SENT = frozenset({"calling", "accepted", "unknown", "recalled"})
"""Attempts that RunPod may have, or had: the others never reached it, or were refused."""

router = APIRouter(tags=["operations"])


class AttemptReply(TypedDict):
    """One call of RunPod's /run. An orphan lost to another attempt, or outlived the end: its cost is ours.

    `lost_at`: when its result was given up: RunPod has dropped it, it is more than we take, or of no use to us.
    """

    attempt: int
    endpoint: str
    started_at: datetime
    outcome: str
    remote_id: str | None
    remote_status: str | None
    orphaned_at: datetime | None
    orphan_cancelled_at: datetime | None
    lost_at: datetime | None
    detail: str | None


class RoundReply(TypedDict):
    """A round that ended, and who began the next one."""

    round: int
    status: str
    code: str | None
    reason: str | None
    endpoint: str | None
    finished_at: datetime
    retried_at: datetime
    retried_by: str
    answered_attempt: int | None
    remote_status: str | None
    said: str | None


class SentReply(TypedDict):
    """What was sent to RunPod for one generation; `earlier_attempts` are those up to which earlier rounds went."""

    id: UUID
    user_id: str
    status: str
    retries: int
    earlier_attempts: int
    submissions: int
    attempts: list[AttemptReply]
    rounds: list[RoundReply]


async def attempts(connection: Connection, prompts: Mapping[UUID, str]) -> Mapping[UUID, list[AttemptReply]]:
    """Every attempt of these generations, which are given with their prompts: none of them is left in a detail."""
    found: defaultdict[UUID, list[AttemptReply]] = defaultdict(list)
    for row in await connection.fetch(_SQL["attempts"], list(prompts)):
        prompt = prompts[row["generation_id"]]
        found[row["generation_id"]].append(
            {
                "attempt": row["attempt"],
                "endpoint": row["endpoint"],
                "started_at": row["started_at"],
                "outcome": row["outcome"],
                "remote_id": row["remote_id"],
                "remote_status": row["remote_status"],
                "orphaned_at": row["orphaned_at"],
                "orphan_cancelled_at": row["orphan_cancelled_at"],
                "lost_at": row["lost_at"],
                "detail": redacted(row["detail"], prompt=prompt) if row["detail"] is not None else None,
            }
        )
    return found


def submissions(made: Iterable[AttemptReply]) -> int:
    """How often RunPod may have got it."""
    return sum(attempt["outcome"] in MAYBE_SENT for attempt in made)


@router.get("/ops/generations/{generation_id}", operation_id="getSent", response_model=SentReply)
async def get_sent(request: Request, _: Administrator, generation_id: UUID) -> Response:
    """Every attempt of one generation, and how its earlier rounds ended. For administrators."""
    async with state_of(request).connection() as connection:
        return replies.json_response(await sent(connection, generation_id))


async def sent(connection: Connection, generation_id: UUID) -> SentReply:
    """What was sent to RunPod for one generation.

    Raises:
        NotFound: there is none of this id.
    """
    found = await generations.get(connection, generation_id)
    if found is None:
        raise NotFound("There is no generation of this id.")
    made = (await attempts(connection, {found.id: found.prompt}))[found.id]
    rounds: list[RoundReply] = [
        {
            "round": row["round"],
            "status": row["state"],
            "code": row["code"],
            "reason": row["reason"],
            "endpoint": row["endpoint"],
            "finished_at": row["finished_at"],
            "retried_at": row["retried_at"],
            "retried_by": row["retried_by"],
            "answered_attempt": row["answered_attempt"],
            "remote_status": row["remote_status"],
            "said": redacted(row["answer"], prompt=found.prompt) if row["answer"] is not None else None,
        }
        for row in await connection.fetch(_SQL["rounds"], found.id)
    ]
    return {
        "id": found.id,
        "user_id": found.user_id,
        "status": found.state.value,
        "retries": found.retries,
        "earlier_attempts": found.earlier_attempts,
        "submissions": submissions(made),
        "attempts": made,
        "rounds": rounds,
    }
