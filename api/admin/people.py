"""`/v1/admin/people/{user_id}`: what somebody has, on which terms, and what was done about it."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field, field_validator, model_validator
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import Credits, OptionalKey, Reason, UserId, headers, key_or_fresh, ledger_key, pointing, reading
from api.admin.operations import OperationReply, newest
from api.admin.plans import PlanName, PlanReply, plan_reply
from api.auth import Administrator, require_admin
from api.bodies import json_only
from api.orders import Model
from api.state import state_of
from shared import ledger, plans
from shared.credits import Policy
from shared.database import Connection
from shared.errors import NotFound, UnknownPlan

LAST_OPERATIONS = 10

router = APIRouter()


class TermsBody(Model):
    """What to change; what is left out stays. null is the plan's again."""

    plan: PlanName | None = Field(None, description="may be left out, but is never null")
    policy: Policy | None = Field(None, description="hard never lends, soft up to overdraft_limit, off without limit")
    overdraft_limit: Credits | None = None
    low_balance_threshold: Credits | None = Field(None, description="with less left than this, the person is warned")
    reason: Reason | None = None

    @field_validator("plan")
    @classmethod
    def _some_plan(cls, plan: str | None) -> str:
        if plan is None:
            msg = "must be the name of a plan"
            raise ValueError(msg)
        return plan

    @model_validator(mode="after")
    def _something(self) -> "TermsBody":
        if not self.terms():
            msg = "name at least one of plan, policy, overdraft_limit and low_balance_threshold"
            raise ValueError(msg)
        return self

    def terms(self) -> dict[str, Any]:
        """What was named."""
        return self.model_dump(exclude_unset=True, exclude={"reason"})


class TermsReply(TypedDict):
    """What an account says for itself; null is the plan's."""

    plan: str
    policy: Policy | None
    overdraft_limit: int | None
    low_balance_threshold: int | None
    time_zone: str


class TermsChangeReply(TypedDict):
    """What was and what is; `replayed` when this key had changed it before."""

    user_id: str
    before: TermsReply
    after: TermsReply
    replayed: bool


class FullBalanceReply(TypedDict):
    """What a person has by the clock; `overdraft_limit` is the one that counts for them."""

    available: int
    held: int
    posted: int
    overdraft_used: int
    overdraft_limit: int


class DailyReply(TypedDict):
    """The next daily credits, and from when on a visit brings them."""

    at: datetime
    credits: int


class PersonReply(TypedDict):
    """What somebody has, on which terms (theirs, then their plan's), and the last acts about them."""

    user_id: str
    terms: TermsReply
    plan: PlanReply
    balance: FullBalanceReply
    next_daily: DailyReply | None
    operations: list[OperationReply]


async def look(connection: Connection, user_id: str) -> PersonReply:
    """Everything about somebody's credits. Looking gives nobody their daily credits.

    Raises:
        NotFound: they have no account; one is opened when they come, or when somebody gives them something.
    """
    terms = await plans.terms_of(connection, user_id)
    if terms is None:
        raise NotFound("Nobody of this id has an account.")
    plan = next(plan for plan in await plans.all_plans(connection) if plan.plan == terms.plan)
    decision = await ledger.decide(connection, user_id=user_id, amount=0)
    daily = decision.next_daily_at
    return {
        "user_id": user_id,
        "terms": cast("TermsReply", asdict(terms)),
        "plan": plan_reply(plan),
        "balance": cast("FullBalanceReply", asdict(decision.balance)),
        "next_daily": {"at": daily, "credits": decision.next_daily_credits} if daily is not None else None,
        "operations": await newest(connection, scope=user_id, limit=LAST_OPERATIONS),
    }


async def set_terms(connection: Connection, user_id: str, body: TermsBody, *, key: str, actor: str) -> TermsChangeReply:
    """Change somebody's terms, opening the account if it is new.

    Raises:
        UnknownPlan: there is no such plan.
        KeyReused: the key came with another change.
    """
    with pointing(plan=UnknownPlan):
        change = await plans.set_terms(
            connection,
            user_id=user_id,
            key=ledger_key("terms", key),
            terms=body.terms(),
            reason=body.reason,
            actor=actor,
        )
    return {
        "user_id": user_id,
        "before": cast("TermsReply", change.before),
        "after": cast("TermsReply", change.after),
        "replayed": change.replayed,
    }


@router.get(
    "/v1/admin/people/{user_id}",
    operation_id="getPerson",
    dependencies=[Depends(require_admin)],
    response_model=PersonReply,
)
async def get_person(request: Request, user_id: Annotated[UserId, Path()]) -> Response:
    """What somebody has, on which terms, and the last acts about them."""
    async with state_of(request).connection() as connection, reading(connection):
        return replies.json_response(await look(connection, user_id))


@router.patch(
    "/v1/admin/people/{user_id}",
    operation_id="changePerson",
    dependencies=[Depends(json_only)],
    response_model=TermsChangeReply,
)
async def change_person(
    request: Request,
    person: Administrator,
    user_id: Annotated[UserId, Path()],
    body: TermsBody,
    idempotency_key: OptionalKey = None,
) -> Response:
    """Change somebody's terms, opening the account if it is new. Undone by sending what `before` says."""
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        key = key_or_fresh(idempotency_key)
        reply = await set_terms(connection, user_id, body, key=key, actor=person.user_id)
    state.hub.tell(user_id)
    return replies.json_response(reply, headers=headers(replayed=reply["replayed"]))
