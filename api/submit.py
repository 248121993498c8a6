"""Submit: claim key · price · reserve · insert · keep the reply, in one transaction; after the commit, ring.

Nothing here waits for Redis or RunPod. Whatever is refused leaves nothing behind, the claimed key included.

What is read on the way is read as the owner, and not as the person: it must be what this very transaction reserves and
writes by, and a browser's role neither locks an account nor reads keys. Every statement of it asks whose the row is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from api import history, idempotency, replies, sources
from api.idempotency import Claim, Kept
from api.metrics import SUBMISSIONS
from api.orders import Order
from api.quotes import agreed_cost
from api.remedies import remedies
from api.state import State
from shared import generations, ledger, pricing
from shared.credits import Decision, Reservation
from shared.database import Connection
from shared.errors import Conflict, InsufficientCredits, TwinError
from shared.generations import HOLD_LIFETIME, Generation
from shared.pricing import Cost, Price

OPERATION = "POST /v1/generations"
ACCEPTED = 202
FINISHED = 201


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a submit came to: the reply as it goes out, byte for byte. `claim` is the key that it is kept under."""

    generation_id: UUID
    status: int
    body: bytes
    replayed: bool
    claim: Claim | None = None


async def submit(
    state: State, order: Order, *, user_id: str, key: str | None = None, request_id: str | None = None
) -> Receipt:
    """Reserve credits for an order and put it on its way; with a key, at most once.

    Raises:
        InsufficientCredits, PriceChanged, Invalid, Conflict, KeyReused, InProgress: nothing was done.
    """
    claim = _claim(user_id, order, key) if key is not None else None
    try:
        async with state.connection() as connection, connection.transaction():
            if claim is not None:
                kept = await idempotency.claim(connection, claim)
                if kept is not None:
                    SUBMISSIONS.labels(order.type, "replayed").inc()
                    return Receipt(kept.generation_id, kept.status, kept.body, replayed=True)
            cost = await agreed_cost(connection, state.quotes, order, user_id=user_id)
            generation, reservation = await _reserve(
                connection, order, cost, user_id=user_id, request_id=request_id, upgrade_url=state.settings.upgrade_url
            )
            body = replies.dump(await accepted(state, connection, generation, cost, reservation))
            if claim is not None:
                await idempotency.keep(connection, claim, Kept(generation.id, ACCEPTED, body))
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "generations_client_reference":
            raise
        raise await _reference_taken(state, order, user_id) from error
    except TwinError as error:
        SUBMISSIONS.labels(order.type, error.code).inc()
        raise
    SUBMISSIONS.labels(order.type, "accepted").inc()
    await state.tell([generation])
    return Receipt(generation.id, ACCEPTED, body, replayed=False, claim=claim)


async def finish(state: State, receipt: Receipt, body: bytes) -> Receipt:
    """The receipt of a generation whose end is told at once: 201, also to whoever repeats the request later."""
    if receipt.claim is not None:
        async with state.connection() as connection:
            await idempotency.keep(connection, receipt.claim, Kept(receipt.generation_id, FINISHED, body))
    return replace(receipt, status=FINISHED, body=body)


def _claim(user_id: str, order: Order, key: str) -> Claim:
    sent = order.model_dump(mode="json", exclude_unset=True)
    return Claim(user_id, OPERATION, key, idempotency.fingerprint(sent))


async def _reserve(
    connection: Connection, order: Order, cost: Cost, *, user_id: str, request_id: str | None, upgrade_url: str | None
) -> tuple[Generation, Reservation]:
    """Hold the credits and write the row, or refuse."""
    source = order.modified
    if source is not None:
        await sources.check(connection, source, user_id=user_id)
    generation_id = uuid7()
    reservation = await ledger.reserve(
        connection,
        user_id=user_id,
        key=f"reserve:{generation_id}",
        generation_id=generation_id,
        amount=cost.total,
        expires_at=datetime.now(UTC) + HOLD_LIFETIME,
        price=cost.as_snapshot(),
    )
    if reservation.hold_id is None:
        price = await pricing.at_version(connection, cost.price_version)
        parameters = order.given_parameters()
        raise denied(reservation.decision, cost, price, parameters=parameters, upgrade_url=upgrade_url)
    generation = await generations.insert(
        connection,
        generation_id=generation_id,
        user_id=user_id,
        generation_type=order.generation_type,
        prompt=order.prompt,
        batch_size=order.batch_size,
        parameters=order.settled_parameters(),
        source=source.model_dump(mode="json") if source is not None else None,
        client_reference=order.client_reference,
        request_id=request_id,
        hold_id=reservation.hold_id,
        price_version=cost.price_version,
        quoted=cost.total,
        wanted_endpoint=order.endpoint,
    )
    return generation, reservation


def denied(
    decision: Decision, cost: Cost, price: Price, *, parameters: Mapping[str, Any], upgrade_url: str | None
) -> InsufficientCredits:
    """The refusal of credits, with what would help."""
    words = " ".join(warning["detail"] for warning in replies.warnings(decision))
    return InsufficientCredits(
        f"This costs {replies.in_words(cost.total)}. {words}",
        balance=replies.balance_reply(decision.balance),
        required=cost.total,
        shortfall=decision.shortfall,
        reasons=list(decision.reasons),
        help=remedies(
            decision,
            price=price,
            batch_size=cost.batch_size,
            parameters=parameters,
            upgrade_url=upgrade_url,
        ),
        next_daily_grant_at=decision.next_daily_at,
        upgrade_url=upgrade_url,
    )


async def accepted(
    state: State, connection: Connection, generation: Generation, cost: Cost, reservation: Reservation
) -> dict[str, Any]:
    """The reply about a generation whose credits have just been held; the time that it tells is kept, to be judged."""
    queue = await state.estimates.queue(connection, generation, now=generation.waits_since)
    eta = queue["eta_seconds"] if queue is not None else None
    await generations.keep_estimate(connection, generation, seconds=eta["p50"] if eta is not None else None)
    reply = replies.generation_reply(
        generation, cost=cost, storage=state.storage, public_url=state.settings.public_url, queue=queue
    )
    return {
        **reply,
        "balance": replies.balance_reply(reservation.balance),
        "warnings": replies.warnings(reservation.decision),
    }


async def _reference_taken(state: State, order: Order, user_id: str) -> Conflict:
    async with state.reading_as(user_id) as connection:
        existing = await history.by_client_reference(
            connection, user_id=user_id, client_reference=order.client_reference or ""
        )
    return Conflict(
        "This client_reference was used before; the generation that carries it is named here.",
        generation_id=str(existing),
        url=replies.address(state.settings.public_url, existing) if existing else None,
    )
