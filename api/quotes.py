"""Quotes: what an order would cost, and whether it would be let through. Stateless: the quote's id carries the offer.

A quote and a submit price by the same function; `quote_id` on a submit locks the price until the quote expires.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.auth import SignedIn
from api.bodies import json_only
from api.orders import AnyWish, Order
from api.remedies import Remedy, remedies
from api.replies import BalanceReply, CostLine
from api.state import State, state_of
from shared import ledger, pricing
from shared.costs import Cost
from shared.credits import Decision
from shared.database import Connection
from shared.errors import Invalid, InvalidToken, NoSuchEndpoint, NotFound, PriceChanged
from shared.generations import Type
from shared.pricing import Price
from shared.signing import Signer

LIFETIME = timedelta(minutes=10)

router = APIRouter(tags=["prices"])


class QuoteReply(TypedDict):
    """An offer. `id` is good until `expires_at`; `verdict` is what a submit would be told now."""

    id: str
    type: str
    batch_size: int
    endpoint: str | None
    cost: int
    lines: list[CostLine]
    price_version: int
    expires_at: datetime
    balance: BalanceReply
    remaining: int
    verdict: Literal["allow", "warn", "block"]
    reasons: list[replies.Warned]
    shortfall: int
    help: list[Remedy]
    upgrade_url: str | None


@router.post("/v1/quotes", operation_id="createQuote", dependencies=[Depends(json_only)], response_model=QuoteReply)
async def create_quote(request: Request, person: SignedIn, wish: AnyWish) -> Response:
    """Price an order before placing it. A submit within the quote's time, with its `id`, has this price."""
    reply = await quote(
        state_of(request),
        user_id=person.user_id,
        generation_type=wish.generation_type,
        batch_size=wish.batch_size,
        parameters=wish.given_parameters(),
        endpoint=wish.endpoint,
    )
    return replies.json_response(reply)


async def quote(
    state: State,
    *,
    user_id: str,
    generation_type: Type,
    batch_size: int,
    parameters: Mapping[str, Any] | None = None,
    endpoint: str | None = None,
) -> QuoteReply:
    """What this would cost this person now, and what a submit would say.

    Raises:
        NoSuchEndpoint: the endpoint has no price of its own for this type.
    """
    async with state.reading_as(user_id) as connection:
        price = await _price(connection, generation_type, endpoint)
        cost = pricing.cost(price, batch_size=batch_size, parameters=parameters)
        decision = await ledger.decide(connection, user_id=user_id, amount=cost.total)
    offers = remedies(
        decision,
        price=price,
        batch_size=batch_size,
        parameters=parameters or {},
        upgrade_url=state.settings.upgrade_url,
    )
    return _reply(state, price, cost, decision, offers, user_id=user_id)


async def _price(connection: Connection, generation_type: Type, endpoint: str | None) -> Price:
    try:
        return await pricing.in_force(connection, generation_type, endpoint=endpoint)
    except NoSuchEndpoint as error:
        problem = {"pointer": "/endpoint", "code": error.code, "detail": error.detail}
        raise NoSuchEndpoint(error.detail, errors=[problem]) from error


def _reply(
    state: State, price: Price, cost: Cost, decision: Decision, offers: list[Remedy], *, user_id: str
) -> QuoteReply:
    expires_at = datetime.now(UTC).replace(microsecond=0) + LIFETIME
    return {
        "id": _write(state.quotes, cost, user_id, expires_at),
        "type": cost.type,
        "batch_size": cost.batch_size,
        "endpoint": price.endpoint,
        "cost": cost.total,
        "lines": [CostLine(label=line["label"], amount=line["amount"]) for line in cost.lines()],
        "price_version": cost.price_version,
        "expires_at": expires_at,
        "balance": replies.balance_reply(decision.balance),
        "remaining": decision.remaining,
        "verdict": decision.verdict,
        "reasons": replies.warnings(decision),
        "shortfall": decision.shortfall,
        "help": offers,
        "upgrade_url": state.settings.upgrade_url if decision.verdict != "allow" else None,
    }


def _write(signer: Signer, cost: Cost, user_id: str, expires_at: datetime) -> str:
    offer = [user_id, cost.type, cost.batch_size, cost.price_version, cost.total, int(expires_at.timestamp())]
    return signer.sign(orjson.dumps(offer))


async def agreed_cost(connection: Connection, signer: Signer, order: Order, *, user_id: str) -> Cost:
    """The cost of an order: at the price of its quote if it names one, else at the price in force.

    Raises:
        Invalid: the quote was not issued here.
        NoSuchEndpoint: the endpoint that it names has no price of its own for this type.
        PriceChanged: the quote expired or is for something else, or the cost is above `max_cost`.
    """
    if order.quote_id is not None:
        cost = await _quoted_cost(connection, signer, order, user_id=user_id)
    else:
        price = await _price(connection, order.generation_type, order.endpoint)
        cost = pricing.cost(price, batch_size=order.batch_size, parameters=order.given_parameters())
    if order.max_cost is not None and cost.total > order.max_cost:
        raise PriceChanged(
            f"This costs {replies.in_words(cost.total)} now, which is above your max_cost of {order.max_cost}.",
            cost=cost.total,
            max_cost=order.max_cost,
        )
    return cost


async def _quoted_cost(connection: Connection, signer: Signer, order: Order, *, user_id: str) -> Cost:
    try:
        offer = orjson.loads(signer.verify(order.quote_id or ""))
    except InvalidToken as error:
        problem = {"pointer": "/quote_id", "code": "no-such-quote", "detail": "This quote was not issued here."}
        raise Invalid("quote_id was not issued here; ask for a quote first.", errors=[problem]) from error
    owner, quoted_type, batch_size, version, total, expires = offer
    if (owner, quoted_type, batch_size) != (user_id, order.type, order.batch_size):
        raise PriceChanged("This quote was made for another order; ask for a new one.")
    if expires < time.time():
        raise PriceChanged("This quote has expired; ask for a new one.")
    try:
        price = await pricing.at_version(connection, version)
    except NotFound as error:
        raise PriceChanged("The price of this quote is gone; ask for a new one.") from error
    if price.endpoint != order.endpoint:
        raise PriceChanged("This quote was made for another endpoint; ask for a new one.")
    cost = pricing.cost(price, batch_size=batch_size, parameters=order.given_parameters())
    if cost.total != total:
        raise PriceChanged(
            f"With these parameters this costs {replies.in_words(cost.total)}, not the {total} of the quote;"
            " ask for a new one.",
            cost=cost.total,
            quoted=total,
        )
    return cost
