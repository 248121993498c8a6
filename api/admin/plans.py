"""`/v1/admin/plans`: what everybody on a plan has, unless their account says otherwise."""

from dataclasses import asdict
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import Credits, OptionalKey, Reason, headers, key_or_fresh, ledger_key
from api.auth import Administrator, require_admin
from api.bodies import json_only
from api.orders import Model
from api.state import state_of
from shared import plans
from shared.credits import Policy
from shared.database import Connection
from shared.plans import Plan

PLAN_CHARACTERS = 64
DAILY_LIMIT = 10**9
WEIGHT_LIMIT = 1000
IN_FLIGHT_LIMIT = 10_000

PlanName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", max_length=PLAN_CHARACTERS, examples=["pro"])
]

router = APIRouter()


class PlanBody(Model):
    """What to change; what is left out or null stays as it is, or as a new plan has it. Null takes a limit away."""

    daily_credits: Annotated[int, Field(ge=0, le=DAILY_LIMIT)] | None = Field(
        None, description="given once for each local day on which a person comes; they end with it"
    )
    policy: Policy | None = Field(None, description="hard never lends, soft up to overdraft_limit, off without limit")
    overdraft_limit: Credits | None = None
    low_balance_threshold: Credits | None = Field(None, description="with less left than this, a person is warned")
    weight: Annotated[int, Field(ge=1, le=WEIGHT_LIMIT)] | None = Field(
        None, description="share of the workers beside other plans"
    )
    max_in_flight: Annotated[int, Field(ge=1, le=IN_FLIGHT_LIMIT)] | None = Field(
        None, description="how many generations of one person are on their way at once; null: any number"
    )
    reason: Reason | None = None

    def terms(self) -> dict[str, Any]:
        """What was named."""
        named = self.model_dump(exclude_unset=True, exclude={"reason"})
        return {name: value for name, value in named.items() if value is not None or name == "max_in_flight"}


class PlanReply(TypedDict):
    """What everybody on it has, unless their account says otherwise."""

    plan: str
    daily_credits: int
    policy: Policy
    overdraft_limit: int
    low_balance_threshold: int
    weight: int
    max_in_flight: int | None


class PlansReply(TypedDict):
    """All plans, by name."""

    data: list[PlanReply]


class PlanChangeReply(TypedDict):
    """What was (null: no such plan) and what is; `replayed` when this key had changed it before."""

    before: PlanReply | None
    after: PlanReply
    replayed: bool


def plan_reply(plan: Plan) -> PlanReply:
    """A plan as administrators see it."""
    return cast("PlanReply", asdict(plan))


async def listed(connection: Connection) -> PlansReply:
    """All plans, by name."""
    return {"data": [plan_reply(plan) for plan in await plans.all_plans(connection)]}


async def change(connection: Connection, plan: str, body: PlanBody, *, key: str, actor: str) -> PlanChangeReply:
    """Make a plan, or change what the body names of it.

    Raises:
        KeyReused: the key came with another change.
    """
    key = ledger_key("plan", key)
    done = await plans.set_plan(connection, plan=plan, key=key, terms=body.terms(), reason=body.reason, actor=actor)
    before, after = cast("PlanReply | None", done.before), cast("PlanReply", done.after)
    return {"before": before, "after": after, "replayed": done.replayed}


@router.get(
    "/v1/admin/plans", operation_id="listPlans", dependencies=[Depends(require_admin)], response_model=PlansReply
)
async def list_plans(request: Request) -> Response:
    """All plans, by name."""
    async with state_of(request).connection() as connection:
        return replies.json_response(await listed(connection))


@router.put(
    "/v1/admin/plans/{plan}",
    operation_id="setPlan",
    dependencies=[Depends(json_only)],
    responses={201: {"model": PlanChangeReply, "description": "A new plan"}},
    response_model=PlanChangeReply,
)
async def set_plan(
    request: Request,
    person: Administrator,
    plan: Annotated[PlanName, Path()],
    body: PlanBody,
    idempotency_key: OptionalKey = None,
) -> Response:
    """Make a plan, or change what everybody on it has. Undone by sending what `before` says; holds keep theirs."""
    state = state_of(request)
    async with state.connection() as connection, connection.transaction():
        reply = await change(connection, plan, body, key=key_or_fresh(idempotency_key), actor=person.user_id)
    state.hub.tell_all()
    created = reply["before"] is None and not reply["replayed"]
    return replies.json_response(reply, 201 if created else 200, headers(replayed=reply["replayed"]))
