"""What administrators may do: grant credits."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from api import replies
from api.auth import Administrator
from api.bodies import Moment, json_only
from api.idempotency import fingerprint
from api.orders import Model, Reference
from api.replies import BalanceReply
from api.state import state_of
from shared import ledger

GRANT_LIMIT = 10**9

router = APIRouter(tags=["admin"])


class GrantBody(Model):
    """Credits for a person. A `source_ref` is granted once for each person and kind, however often it is sent."""

    user_id: Reference
    amount: Annotated[int, Field(ge=1, le=GRANT_LIMIT)]
    kind: Literal["promo", "plan", "paid"]
    source_ref: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]
    expires_at: Moment | None = None
    priority: Annotated[int, Field(ge=0, le=1000, description="lower is spent first; 100 by default")] | None = None


class GrantReply(TypedDict):
    """The grant; `replayed` when it had been given before."""

    user_id: str
    bucket_id: int
    amount: int
    kind: str
    source_ref: str
    replayed: bool
    balance: BalanceReply


@router.post(
    "/v1/admin/grants",
    operation_id="createGrant",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={200: {"model": GrantReply, "description": "Granted before; nothing was added"}},
    response_model=GrantReply,
)
async def create_grant(request: Request, person: Administrator, body: GrantBody) -> Response:
    """Give a person credits, once."""
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        granted = await ledger.grant(
            connection,
            user_id=body.user_id,
            # The terms are in the key, so that other terms meet the earlier grant and are told so.
            key=f"grant:{fingerprint(body.model_dump(mode='json')).hex()}",
            amount=body.amount,
            kind=body.kind,
            source_ref=body.source_ref,
            actor=person.user_id,
            priority=body.priority,
            expires_at=body.expires_at,
        )
    state.hub.tell(body.user_id)
    reply: GrantReply = {
        "user_id": body.user_id,
        "bucket_id": granted.bucket_id,
        "amount": granted.amount,
        "kind": body.kind,
        "source_ref": body.source_ref,
        "replayed": granted.replayed,
        "balance": replies.balance_reply(granted.balance),
    }
    return replies.json_response(reply, 200 if granted.replayed else 201)
