"""`GET /v1/pricing`: the prices in force, for everybody."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.orders import BATCH_LIMIT
from api.state import state_of
from shared import pricing

router = APIRouter(tags=["prices"])


class Tier(TypedDict):
    """From this batch size on, the whole batch is multiplied; 1000 means unchanged."""

    min_batch: int
    multiplier_permille: int


class PriceReply(TypedDict):
    """What one of a type costs, and its price list's version."""

    type: str
    unit_credits: int
    batch_multipliers: list[Tier]
    version: int
    effective_at: datetime


class PricingReply(TypedDict):
    """All prices. Cost = unit price x count x multiplier, rounded up once."""

    currency: str
    batch_limit: int
    prices: list[PriceReply]


@router.get("/v1/pricing", operation_id="getPricing", response_model=PricingReply)
async def get_pricing(request: Request) -> Response:
    """What everything costs now."""
    async with state_of(request).connection() as connection:
        prices = await pricing.current(connection)
    listed: list[PriceReply] = [
        {
            "type": price.type.value,
            "unit_credits": price.unit_credits,
            "batch_multipliers": [
                {"min_batch": tier["min_batch"], "multiplier_permille": tier["multiplier_permille"]}
                for tier in price.batch_multipliers
            ],
            "version": price.version,
            "effective_at": price.effective_at,
        }
        for price in sorted(prices.values(), key=lambda price: price.unit_credits)
    ]
    body: PricingReply = {"currency": "credits", "batch_limit": BATCH_LIMIT, "prices": listed}
    return replies.json_response(body, headers={"Cache-Control": "public, max-age=30"})
