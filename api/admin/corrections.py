"""Adjustments and reversals: putting right what a person has, each with who and why."""

from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import AMOUNT_LIMIT, SourceRef, ToldReason, UserId, headers, ledger_key, pointing
from api.auth import Administrator
from api.bodies import Moment, json_only
from api.errors import InvalidIdempotencyKey
from api.idempotency import read_key
from api.orders import Model
from api.replies import BalanceReply
from api.state import state_of
from shared import corrections, sql
from shared.credits import Correction, Kind
from shared.database import Connection
from shared.errors import AlreadyReversed, InvalidAmount, KeyReused, NotEnough, NotFound, OverCapture

_SQL = sql.load(__file__)

router = APIRouter()


class AdjustmentBody(Model):
    """Credits to give (above 0; debt is paid first) or to take (below 0; in spending order, all of it or nothing)."""

    user_id: UserId
    amount: Annotated[int, Field(ge=-AMOUNT_LIMIT, le=AMOUNT_LIMIT, description="not 0", examples=[-5])]
    reason: ToldReason
    expires_at: Moment | None = Field(None, description="of credits that are given; never by default")

    @field_validator("amount")
    @classmethod
    def _something(cls, amount: int) -> int:
        if amount == 0:
            msg = "must not be 0"
            raise ValueError(msg)
        return amount

    @field_validator("expires_at")
    @classmethod
    def _only_what_is_given(cls, ends: Moment | None, info: ValidationInfo) -> Moment | None:
        if ends is not None and info.data.get("amount", 1) < 0:
            msg = "must be left out: only credits that are given expire"
            raise ValueError(msg)
        return ends


class ReversalBody(Model):
    """A grant to reverse (`user_id`, `kind`, `source_ref`), or a charge (`generation_id`)."""

    user_id: UserId | None = None
    kind: Kind | None = None
    source_ref: SourceRef | None = None
    generation_id: Annotated[UUID, Field(strict=False)] | None = Field(None, validate_default=True)
    amount: Annotated[int, Field(ge=1, le=AMOUNT_LIMIT)] | None = Field(
        None, description="that much of it; by default all that is left of the grant, or all that was charged"
    )
    reason: ToldReason

    @field_validator("generation_id")
    @classmethod
    def _one_or_the_other(cls, generation_id: UUID | None, info: ValidationInfo) -> UUID | None:
        if not {"user_id", "kind", "source_ref"} <= info.data.keys():
            return generation_id  # one of them is wrong, which is said already
        named = [info.data[name] is not None for name in ("user_id", "kind", "source_ref")]
        if any(named) if generation_id is not None else not all(named):
            msg = "give either generation_id, or user_id, kind and source_ref"
            raise ValueError(msg)
        return generation_id


class AdjustmentReply(TypedDict):
    """What the person's credits changed by; `replayed` when this key had done it before."""

    user_id: str
    amount: int
    replayed: bool
    balance: BalanceReply


class ReversalReply(TypedDict):
    """What the person's credits changed by: below 0 for a grant. `spent`: of a grant, what was gone and stays so."""

    user_id: str
    amount: int
    spent: int
    replayed: bool
    balance: BalanceReply


async def adjust(connection: Connection, body: AdjustmentBody, *, key: str, actor: str) -> AdjustmentReply:
    """Adjust what a person has, once for each key.

    Raises:
        NotEnough: that much cannot be taken; nothing was.
        InvalidAmount: the credits would have ended already.
        KeyReused: the key came with another adjustment.
    """
    try:
        with pointing(amount=NotEnough, expires_at=InvalidAmount):
            done = await corrections.adjust(
                connection,
                user_id=body.user_id,
                key=ledger_key("adjust", key),
                amount=body.amount,
                reason=body.reason,
                actor=actor,
                expires_at=body.expires_at,
            )
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "credit_operations_key_adjusts_one":
            raise
        raise KeyReused("This key adjusted another person's credits; take a new key for a new adjustment.") from error
    balance = replies.balance_reply(done.balance)
    return {"user_id": body.user_id, "amount": done.amount, "replayed": done.replayed, "balance": balance}


async def reverse(connection: Connection, body: ReversalBody, *, actor: str) -> ReversalReply:
    """Take back what is left of a grant, or give back what a generation was charged. Once.

    Raises:
        UnknownGrant, NotFound: there is no such grant, no such generation.
        NotCharged: the generation has not been charged.
        InvalidAmount, OverCapture: more than was granted or charged.
        AlreadyReversed: with another amount or reason.
    """
    try:
        with pointing(amount=(InvalidAmount, OverCapture)):
            user_id, done = await _reverse(connection, body, actor)
    except KeyReused as error:
        raise AlreadyReversed(
            "This was reversed before, with another amount or reason; that stands, and an adjustment can add to it."
        ) from error
    return {
        "user_id": user_id,
        "amount": done.amount,
        "spent": done.spent,
        "replayed": done.replayed,
        "balance": replies.balance_reply(done.balance),
    }


async def _reverse(connection: Connection, body: ReversalBody, actor: str) -> tuple[str, Correction]:
    if body.user_id is not None and body.kind is not None and body.source_ref is not None:
        return body.user_id, await corrections.reverse_grant(
            connection,
            user_id=body.user_id,
            kind=body.kind,
            source_ref=body.source_ref,
            amount=body.amount,
            reason=body.reason,
            actor=actor,
        )
    hold = await connection.fetchrow(_SQL["hold_of_generation"], body.generation_id)
    if hold is None:
        raise NotFound("There is no generation of this id.")
    return hold["user_id"], await corrections.reverse_charge(
        connection, hold_id=hold["hold_id"], amount=body.amount, reason=body.reason, actor=actor
    )


@router.post(
    "/v1/admin/adjustments",
    operation_id="createAdjustment",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={200: {"model": AdjustmentReply, "description": "Done before with this key; nothing was changed"}},
    response_model=AdjustmentReply,
)
async def create_adjustment(
    request: Request,
    person: Administrator,
    body: AdjustmentBody,
    idempotency_key: Annotated[
        str | None, Header(description="required; 1 to 255 visible ASCII, kept for ever")
    ] = None,
) -> Response:
    """Put right what a person has. Undone by an adjustment of the opposite amount."""
    key = read_key(idempotency_key)
    if key is None:
        raise InvalidIdempotencyKey("An adjustment needs an Idempotency-Key, so that a retry does not do it twice.")
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        reply = await adjust(connection, body, key=key, actor=person.user_id)
    state.hub.tell(body.user_id)
    replayed = reply["replayed"]
    return replies.json_response(reply, 200 if replayed else 201, headers(replayed=replayed))


@router.post(
    "/v1/admin/reversals",
    operation_id="createReversal",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={200: {"model": ReversalReply, "description": "Reversed before; nothing was changed"}},
    response_model=ReversalReply,
)
async def create_reversal(request: Request, person: Administrator, body: ReversalBody) -> Response:
    """Reverse a grant or a charge, once. Undone by an adjustment of the opposite amount.

    Of a grant, what was spent stays spent, and without an `amount` the grant is over: what running work gives back to
    it expires. A charge comes back as credits that do not expire.
    """
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        reply = await reverse(connection, body, actor=person.user_id)
    state.hub.tell(reply["user_id"])
    replayed = reply["replayed"]
    return replies.json_response(reply, 200 if replayed else 201, headers(replayed=replayed))
