"""What would help somebody who is short of credits: in codes for programs, in words for people.

A refused order and a quote that would be refused say the same, by this one function.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from typing_extensions import TypedDict

from api import replies
from shared.costs import Price, cost
from shared.credits import Decision


class TopUp(TypedDict):
    """So many credits more, and this very order is let through."""

    code: Literal["top-up"]
    detail: str
    credits: int
    url: str | None


class DailyCredits(TypedDict):
    """The person's next free credits."""

    code: Literal["daily-credits"]
    detail: str
    credits: int
    at: datetime


class SmallerBatch(TypedDict):
    """The largest batch of the same that would be let through now."""

    code: Literal["smaller-batch"]
    detail: str
    batch_size: int
    cost: int


Remedy = TopUp | DailyCredits | SmallerBatch


def remedies(
    decision: Decision, *, price: Price, batch_size: int, parameters: Mapping[str, Any], upgrade_url: str | None
) -> list[Remedy]:
    """What would help, if the decision is a block: more credits, tomorrow, or less at once."""
    if decision.verdict != "block":
        return []
    more = replies.in_words(decision.shortfall)
    found: list[Remedy] = [
        {"code": "top-up", "detail": f"{more} more would do.", "credits": decision.shortfall, "url": upgrade_url}
    ]
    if decision.next_daily_at is not None:
        free = replies.in_words(decision.next_daily_credits)
        found.append(
            {
                "code": "daily-credits",
                "detail": f"{free} for free come with your next day.",
                "credits": decision.next_daily_credits,
                "at": decision.next_daily_at,
            }
        )
    smaller = _smaller_batch(decision.affordable or 0, price, batch_size, parameters)
    return [*found, smaller] if smaller is not None else found


def _smaller_batch(
    affordable: int, price: Price, batch_size: int, parameters: Mapping[str, Any]
) -> SmallerBatch | None:
    # A multiplier may make a larger batch the cheaper one, so the first that fits from above is the best there is.
    for size in range(batch_size - 1, 0, -1):
        total = cost(price, batch_size=size, parameters=parameters).total
        if total <= affordable:
            return {
                "code": "smaller-batch",
                "detail": f"A batch of {size}, for {replies.in_words(total)}, would go through.",
                "batch_size": size,
                "cost": total,
            }
    return None
