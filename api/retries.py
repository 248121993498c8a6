"""Trying again: what failed or was cancelled gets another round of attempts, under a hold of its own.

It costs what was agreed the first time: the snapshot on the hold before, whose price version is never edited, so that a
failure of ours never becomes dearer and the price on the button is the price. Whoever wants today's price orders anew.
Everybody who tries again does it here: the person, staff one by one (`twin retry`) and many at once (`dead_letters`).
What is read on the way is read as the owner, as a submit does it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Header, Request, Response

from api import idempotency, replies, submit
from api.auth import SignedIn
from api.idempotency import Claim, Kept, read_key
from api.replies import GenerationReply
from api.state import State, state_of
from shared import generations, ledger, pricing, sql
from shared.credits import Reservation
from shared.database import Connection
from shared.errors import Conflict, NotFound
from shared.generations import HOLD_LIFETIME, MAXIMUM_RETRIES, RETRY_WINDOW, Generation
from shared.generations import State as Status
from shared.pricing import Cost

_SQL = sql.load(__file__)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

OPERATION = "POST /v1/generations/{id}/retry"
ACCEPTED = 202
PERSON, OPS = "api", "ops"
"""Who acts, as the transition tells the person; `retried_by` names staff, for ops."""

router = APIRouter(tags=["generations"])


@dataclass(frozen=True, slots=True)
class Begun:
    """A generation in its next round, and what is held for it."""

    generation: Generation
    cost: Cost
    reservation: Reservation


async def begin(
    connection: Connection,
    generation_id: UUID,
    *,
    retried_by: str,
    user_id: str | None = None,
    upgrade_url: str | None = None,
) -> Begun:
    """Hold the agreed price once more and put the generation on its way; with `user_id`, only that person's.

    Raises:
        NotFound: there is none of this id, or it is somebody else's.
        Conflict: it is open, completed, too old, or was tried again too often.
        InsufficientCredits: the person cannot pay for it now. Nothing was done.
    """
    now = datetime.now(UTC)
    # looked at before it is locked: what is held back is not let in while somebody has it locked
    _retryable(await generations.get(connection, generation_id, user_id=user_id), now)
    found = _retryable(await generations.lock(connection, generation_id, user_id=user_id), now)
    cost = Cost.from_snapshot(await connection.fetchval(_SQL["agreed_price"], found.hold_id))
    reservation = await ledger.reserve(
        connection,
        user_id=found.user_id,
        key=f"reserve:{found.id}:{found.retries + 2}",
        generation_id=found.id,
        amount=cost.total,
        expires_at=now + HOLD_LIFETIME,
        price=cost.as_snapshot(),
    )
    if reservation.hold_id is None:
        price = await pricing.at_version(connection, cost.price_version)
        decision, parameters = reservation.decision, found.parameters
        raise submit.denied(decision, cost, price, parameters=parameters, upgrade_url=upgrade_url)
    begun = await generations.retry(
        connection,
        found,
        hold_id=reservation.hold_id,
        price_version=cost.price_version,
        quoted=cost.total,
        retried_by=retried_by,
        actor=PERSON if user_id is not None else OPS,
    )
    if begun is None:
        msg = f"generation {found.id} moved although it was locked"
        raise RuntimeError(msg)
    log.info("generation.retried", generation_id=str(begun.id), retries=begun.retries, retried_by=retried_by)
    return Begun(begun, cost, reservation)


def _retryable(found: Generation | None, now: datetime) -> Generation:
    if found is None:
        raise NotFound("There is no generation of this id.")
    if not found.may_be_retried(now):
        raise _not_retryable(found)
    return found


def _not_retryable(found: Generation) -> Conflict:
    if found.state not in (Status.FAILED, Status.CANCELLED):
        why = f"Only what failed or was cancelled can be tried again: this generation is {found.state.value}."
    elif found.retries >= MAXIMUM_RETRIES:
        why = f"This was tried again {MAXIMUM_RETRIES} times, which is as often as may be; order it anew."
    else:
        why = f"This was made more than {RETRY_WINDOW.days} days ago; order it anew."
    facts: dict[str, Any] = {"generation_id": str(found.id), "generation_status": found.state.value}
    return Conflict(why, **facts)


@router.post(
    "/v1/generations/{generation_id}/retry",
    operation_id="retryGeneration",
    status_code=ACCEPTED,
    response_model=GenerationReply,
)
async def retry_generation(
    request: Request,
    person: SignedIn,
    generation_id: UUID,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 visible ASCII; kept for 30 days")] = None,
) -> Response:
    """Try again what failed or was cancelled, for the credits that were agreed: they are held once more."""
    state = state_of(request)
    receipt = await retry(state, generation_id, user_id=person.user_id, key=read_key(idempotency_key))
    headers = {"Location": replies.address(state.settings.public_url, receipt.generation_id)}
    if receipt.replayed:
        headers["Idempotent-Replayed"] = "true"
    return Response(receipt.body, receipt.status, headers=headers, media_type="application/json")


async def retry(state: State, generation_id: UUID, *, user_id: str, key: str | None = None) -> submit.Receipt:
    """Try a person's generation again; with a key, at most once.

    Raises:
        NotFound, Conflict, InsufficientCredits, KeyReused, InProgress: nothing was done.
    """
    claim = None
    if key is not None:
        claim = Claim(user_id, OPERATION, key, idempotency.fingerprint({"generation_id": str(generation_id)}))
    async with state.connection() as connection, connection.transaction():
        kept = await idempotency.claim(connection, claim) if claim is not None else None
        if kept is not None:
            return submit.Receipt(kept.generation_id, kept.status, kept.body, replayed=True)
        upgrade_url = state.settings.upgrade_url
        begun = await begin(connection, generation_id, retried_by=user_id, user_id=user_id, upgrade_url=upgrade_url)
        reply = await submit.accepted(state, connection, begun.generation, begun.cost, begun.reservation)
        body = replies.dump(reply)
        if claim is not None:
            await idempotency.keep(connection, claim, Kept(begun.generation.id, ACCEPTED, body))
    await state.tell([begun.generation])
    return submit.Receipt(begun.generation.id, ACCEPTED, body, replayed=False, claim=claim)
