"""`/v1/admin/prices`: add a version of a price, and look at all there ever were. Never an edit or a delete.

A mistake is undone by adding the version that was right; the price of an endpoint that should have none is withdrawn.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from typing_extensions import TypedDict

from api import replies
from api.admin.fields import Reason, headers
from api.auth import Administrator
from api.bodies import Moment, json_only
from api.cursors import read_number, write_number
from api.generations import CURSOR_CHARACTERS, PAGE_DEFAULT, PAGE_LIMIT
from api.idempotency import read_key
from api.orders import BATCH_LIMIT, PRICED, EndpointName, Model
from api.pricing import PriceReply, price_reply
from api.state import state_of
from shared import pricing
from shared.costs import Measure, Surcharge
from shared.database import Connection
from shared.errors import InvalidPrice
from shared.generations import Type
from shared.pricing import Version

CREDITS_LIMIT = 10**9
MULTIPLIER_LIMIT_PERMILLE = 10**6

Credits = Annotated[int, Field(ge=0, le=CREDITS_LIMIT)]

router = APIRouter()


class TierBody(Model):
    """From this batch size on, the whole batch is multiplied; 1000 means unchanged."""

    min_batch: Annotated[int, Field(ge=1, le=BATCH_LIMIT)]
    multiplier_permille: Annotated[int, Field(ge=0, le=MULTIPLIER_LIMIT_PERMILLE)]


class SurchargeBody(Model):
    """Per output, every started `step` of the parameter above `included` adds `credits`; pixels is width x height."""

    parameter: Measure
    included: Annotated[int, Field(ge=0, le=10**9)]
    step: Annotated[int, Field(ge=1, le=10**9)]
    credits: Credits


class PriceBody(Model):
    """A price for a type, or for one of its endpoints. Without `effective_at` it is in force from now on.

    `withdrawn`: the endpoint has no price of its own any more, and cannot be asked for; `unit_credits` is 0 then.
    """

    type: Literal["text", "image", "modify", "video"]
    endpoint: EndpointName | None = None
    withdrawn: bool = False
    unit_credits: Credits
    batch_multipliers: list[TierBody] = Field([], max_length=BATCH_LIMIT)
    surcharges: list[SurchargeBody] = Field([], max_length=3)
    effective_at: Moment | None = None
    note: Reason | None = None

    @field_validator("batch_multipliers")
    @classmethod
    def _one_tier_a_batch(cls, tiers: list[TierBody]) -> list[TierBody]:
        if len({tier.min_batch for tier in tiers}) < len(tiers):
            msg = "must have one tier for each min_batch"
            raise ValueError(msg)
        return tiers

    @field_validator("surcharges")
    @classmethod
    def _of_what_orders_carry(cls, surcharges: list[SurchargeBody], info: ValidationInfo) -> list[SurchargeBody]:
        named = [surcharge.parameter for surcharge in surcharges]
        if len(set(named)) < len(named):
            msg = "must have one surcharge for each parameter"
            raise ValueError(msg)
        unknown = set(named) - set(PRICED.get(info.data.get("type", ""), named))
        if unknown:
            msg = f"must not have {', '.join(sorted(unknown))}: orders of this type carry no such parameter"
            raise ValueError(msg)
        return surcharges


class VersionReply(PriceReply):
    """A version of a price. In force from `effective_at` to `ends_at`; `hash` is its link of the chain."""

    withdrawn: bool
    ends_at: datetime | None
    created_at: datetime
    created_by: str
    note: str | None
    hash: str


class AddedReply(VersionReply):
    """What was added; `replayed` when this key had added it before."""

    replayed: bool


class VersionPage(TypedDict):
    """A page of a list; `next_cursor` is null on the last one."""

    data: list[VersionReply]
    has_more: bool
    next_cursor: str | None


class VersionQuery(BaseModel):
    """Which versions, and how many at once. Several types: repeat the parameter."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=PAGE_LIMIT)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(max_length=CURSOR_CHARACTERS)] | None = None
    type: Annotated[list[Type], Field(max_length=len(Type))] = []

    def types(self) -> tuple[Type, ...]:
        """The types in an order of their own, so that the same ones always make the same cursor."""
        return tuple(sorted(set(self.type)))


async def add(connection: Connection, body: PriceBody, *, key: str, actor: str) -> AddedReply:
    """Add the version that the body says.

    Raises:
        InvalidPrice: it would begin in the past, or its dearest order would not fit in a hold.
        KeyReused: the key came with another price.
    """
    try:
        version, replayed = await pricing.add(
            connection,
            key=key,
            generation_type=Type(body.type),
            endpoint=body.endpoint,
            unit_credits=body.unit_credits,
            batch_multipliers=[tier.model_dump() for tier in body.batch_multipliers],
            surcharges=[Surcharge(**surcharge.model_dump()) for surcharge in body.surcharges],
            effective_at=body.effective_at,
            note=body.note,
            withdrawn=body.withdrawn,
            actor=actor,
        )
    except InvalidPrice as error:
        problem = {"pointer": f"/{error.facts['field']}", "code": error.code, "detail": error.detail}
        raise InvalidPrice(error.detail, errors=[problem]) from error
    return {**_reply(version), "replayed": replayed}


async def listed(
    connection: Connection, *, types: Sequence[Type] = (), below: int | None = None, limit: int
) -> list[VersionReply]:
    """Up to `limit` versions, newest first, with numbers lower than `below`."""
    return [_reply(version) for version in await pricing.versions(connection, types=types, below=below, limit=limit)]


def _reply(version: Version) -> VersionReply:
    return {
        **price_reply(version.price),
        "withdrawn": version.withdrawn,
        "ends_at": version.ends_at,
        "created_at": version.created_at,
        "created_by": version.created_by,
        "note": version.note,
        "hash": version.hash.hex(),
    }


@router.post(
    "/v1/admin/prices",
    operation_id="addPrice",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={200: {"model": AddedReply, "description": "Added before with this key; nothing was added"}},
    response_model=AddedReply,
)
async def add_price(
    request: Request,
    person: Administrator,
    body: PriceBody,
    idempotency_key: Annotated[str, Header(description="1 to 255 visible ASCII; kept for ever")],
) -> Response:
    """Add a version of a price. Quotes that were given keep theirs until they expire; holds keep theirs for ever."""
    key = read_key(idempotency_key) or ""
    async with state_of(request).connection() as connection, connection.transaction():
        added = await add(connection, body, key=key, actor=person.user_id)
    return replies.json_response(added, 200 if added["replayed"] else 201, headers(replayed=added["replayed"]))


@router.get("/v1/admin/prices", operation_id="listPrices", response_model=VersionPage)
async def list_prices(request: Request, person: Administrator, query: Annotated[VersionQuery, Query()]) -> Response:
    """Every version there ever was, newest first; those that are not in force yet are among them."""
    state = state_of(request)
    scope = ["prices", person.user_id, query.types()]
    below = read_number(state.cursors, query.cursor, scope=scope) if query.cursor is not None else None
    async with state.connection() as connection:
        found = await listed(connection, types=query.types(), below=below, limit=query.limit + 1)
    shown, has_more = found[: query.limit], len(found) > query.limit
    cursor = write_number(state.cursors, shown[-1]["version"], scope=scope) if has_more else None
    page: VersionPage = {"data": shown, "has_more": has_more, "next_cursor": cursor}
    return replies.json_response(page, headers=_links(state.settings.public_url, query, cursor))


def _links(public_url: str, query: VersionQuery, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    parameters = [("type", kind.value) for kind in query.types()] + [("limit", str(query.limit)), ("cursor", cursor)]
    return {"Link": f'<{public_url}/v1/admin/prices?{urlencode(parameters)}>; rel="next"'}
