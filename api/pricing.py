"""`GET /v1/pricing`: the prices in force, for everybody."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.orders import BATCH_LIMIT
from api.state import state_of
from shared import pricing
from shared.costs import Price

router = APIRouter(tags=["prices"])


class Tier(TypedDict):
    """From this batch size on, the whole batch is multiplied; 1000 means unchanged."""

    min_batch: int
    multiplier_permille: int


class SurchargeReply(TypedDict):
    """Per output, every started `step` of the parameter above `included` adds `credits`; pixels is width x height."""

    parameter: Literal["steps", "pixels", "seconds"]
    included: int
    step: int
    credits: int


class PriceReply(TypedDict):
    """What one of a type costs, and its price list's version. `endpoint`: when sent there and nowhere else."""

    type: str
    endpoint: str | None
    unit_credits: int
    batch_multipliers: list[Tier]
    surcharges: list[SurchargeReply]
    version: int
    effective_at: datetime


class PricingReply(TypedDict):
    """All prices. Cost = (unit price + surcharges) x count x multiplier, rounded up once.

    `prices` has one for each type, `endpoint_prices` those of the endpoints that an order may name.
    """

    currency: str
    batch_limit: int
    prices: list[PriceReply]
    endpoint_prices: list[PriceReply]


def price_reply(price: Price) -> PriceReply:
    """A price as everybody sees it."""
    return {
        "type": price.type.value,
        "endpoint": price.endpoint,
        "unit_credits": price.unit_credits,
        "batch_multipliers": [
            {"min_batch": tier["min_batch"], "multiplier_permille": tier["multiplier_permille"]}
            for tier in price.batch_multipliers
        ],
        "surcharges": [
            {
                "parameter": surcharge.parameter,
                "included": surcharge.included,
                "step": surcharge.step,
                "credits": surcharge.credits,
            }
            for surcharge in price.surcharges
        ],
        "version": price.version,
        "effective_at": price.effective_at,
    }


@router.get("/v1/pricing", operation_id="getPricing", response_model=PricingReply)
async def get_pricing(request: Request) -> Response:
    """What everything costs now."""
    async with state_of(request).connection() as connection:
        menu = await pricing.menu(connection)
    listed = [
        price_reply(price) for price in sorted(menu, key=lambda price: (price.unit_credits, price.endpoint or ""))
    ]
    body: PricingReply = {
        "currency": "credits",
        "batch_limit": BATCH_LIMIT,
        "prices": [price for price in listed if price["endpoint"] is None],
        "endpoint_prices": [price for price in listed if price["endpoint"] is not None],
    }
    return replies.json_response(body, headers={"Cache-Control": "public, max-age=30"})
