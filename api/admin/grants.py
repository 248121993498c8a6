"""`POST /v1/admin/grants`: credits for a person, given or bought."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import UserId, headers, pointing
from api.auth import Administrator
from api.bodies import Moment, json_only
from api.idempotency import fingerprint
from api.orders import Model
from api.replies import BalanceReply
from api.state import state_of
from shared import ledger
from shared.database import Connection
from shared.errors import InvalidAmount

GRANT_LIMIT = 10**9
PAID_LIMIT = 10**15

router = APIRouter()


class GrantBody(Model):
    """Credits for a person. A `source_ref` is granted once for each person and kind, however often it is sent."""

    user_id: UserId
    amount: Annotated[int, Field(ge=1, le=GRANT_LIMIT, examples=[100])]
    kind: Literal["promo", "plan", "paid"]
    source_ref: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", examples=["stripe:pi_1"])]
    effective_at: Moment | None = Field(None, description="can be spent from then on; from now on by default")
    expires_at: Moment | None = None
    priority: Annotated[int, Field(ge=0, le=1000, description="lower is spent first; 100 by default")] | None = None
    paid_amount: Annotated[int, Field(ge=0, le=PAID_LIMIT)] | None = Field(
        None, description="a purchase: what was paid, in the smallest unit of `paid_currency`; only for kind paid"
    )
    paid_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = Field(
        None, description="ISO 4217", examples=["EUR"], validate_default=True
    )

    @field_validator("paid_amount")
    @classmethod
    def _only_for_what_is_bought(cls, amount: int | None, info: ValidationInfo) -> int | None:
        if amount is not None and info.data.get("kind", "paid") != "paid":
            msg = "must be left out: only credits of kind paid are paid for"
            raise ValueError(msg)
        return amount

    @field_validator("paid_currency")
    @classmethod
    def _with_the_amount(cls, currency: str | None, info: ValidationInfo) -> str | None:
        if "paid_amount" in info.data and (currency is None) != (info.data["paid_amount"] is None):
            msg = "must come together with paid_amount"
            raise ValueError(msg)
        return currency


class GrantReply(TypedDict):
    """The grant; `replayed` when it had been given before."""

    user_id: str
    bucket_id: int
    amount: int
    kind: str
    source_ref: str
    paid_amount: int | None
    paid_currency: str | None
    replayed: bool
    balance: BalanceReply


async def give(connection: Connection, body: GrantBody, *, actor: str) -> GrantReply:
    """Give the credits, once.

    Raises:
        GrantConflict: the source_ref was granted before on other terms.
        InvalidAmount: the credits would have ended before they can be spent.
    """
    with pointing(expires_at=InvalidAmount):
        granted = await ledger.grant(
            connection,
            user_id=body.user_id,
            # The terms are in the key, so that other terms meet the earlier grant and are told so.
            key=f"grant:{fingerprint(body.model_dump(mode='json')).hex()}",
            amount=body.amount,
            kind=body.kind,
            source_ref=body.source_ref,
            actor=actor,
            priority=body.priority,
            effective_at=body.effective_at,
            expires_at=body.expires_at,
            paid_amount=body.paid_amount,
            paid_currency=body.paid_currency,
        )
    return {
        "user_id": body.user_id,
        "bucket_id": granted.bucket_id,
        "amount": granted.amount,
        "kind": body.kind,
        "source_ref": body.source_ref,
        "paid_amount": body.paid_amount,
        "paid_currency": body.paid_currency,
        "replayed": granted.replayed,
        "balance": replies.balance_reply(granted.balance),
    }


@router.post(
    "/v1/admin/grants",
    operation_id="createGrant",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={200: {"model": GrantReply, "description": "Granted before; nothing was added"}},
    response_model=GrantReply,
)
async def create_grant(request: Request, person: Administrator, body: GrantBody) -> Response:
    """Give a person credits, once. Undone by a reversal of the same `user_id`, `kind` and `source_ref`."""
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        reply = await give(connection, body, actor=person.user_id)
    state.hub.tell(body.user_id)
    replayed = reply["replayed"]
    return replies.json_response(reply, 200 if replayed else 201, headers(replayed=replayed))
