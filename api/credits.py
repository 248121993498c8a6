"""`GET /v1/credits`: what a person has, and which grants it comes from."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies
from api.auth import SignedIn
from api.state import State, state_of
from shared import ledger
from shared.credits import Kind

router = APIRouter(tags=["credits"])


class BucketReply(TypedDict):
    """Credits of one origin, in spending order. `held` is promised to running work."""

    kind: Kind
    source_ref: str
    granted: int
    remaining: int
    held: int
    effective_at: datetime
    expires_at: datetime | None


class CreditsReply(TypedDict):
    """A person's credits. `low`: the next small order would be let through with a warning or not at all."""

    available: int
    held: int
    posted: int
    overdraft_used: int
    overdraft_limit: int
    buckets: list[BucketReply]
    next_daily_grant_at: datetime | None
    low: bool
    upgrade_url: str | None


@router.get("/v1/credits", operation_id="getCredits", response_model=CreditsReply)
async def get_credits(request: Request, person: SignedIn) -> Response:
    """What the person can spend."""
    return replies.json_response(await credits_of(state_of(request), user_id=person.user_id))


async def credits_of(state: State, *, user_id: str) -> CreditsReply:
    """What a person has by the clock; somebody new has nothing yet."""
    async with state.reading_as(user_id) as connection:
        # A credit is the smallest price there can be, so this decision tells whether the person is low.
        decision = await ledger.decide(connection, user_id=user_id, amount=1)
        held = await ledger.buckets(connection, user_id)
    balance = decision.balance
    low = decision.verdict != "allow"
    return {
        "available": balance.available,
        "held": balance.held,
        "posted": balance.posted,
        "overdraft_used": balance.overdraft_used,
        "overdraft_limit": balance.overdraft_limit,
        "buckets": [
            {
                "kind": bucket.kind,
                "source_ref": bucket.source_ref,
                "granted": bucket.granted,
                "remaining": bucket.remaining,
                "held": bucket.held,
                "effective_at": bucket.effective_at,
                "expires_at": bucket.expires_at,
            }
            for bucket in held
        ],
        "next_daily_grant_at": None,
        "low": low,
        "upgrade_url": state.settings.upgrade_url if low else None,
    }
