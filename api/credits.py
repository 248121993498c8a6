"""`GET /v1/credits`: what a person has, which grants it comes from, when it ends and when more comes.

The first look of a local day gives the day's free credits, like the first order of it.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from api import replies, warned
from api.auth import SignedIn
from api.errors import BUSY
from api.state import State, state_of
from api.warned import WarningReply
from shared import ledger, sql
from shared.credits import Bucket, Kind, Policy
from shared.errors import AccountBusy

_SQL = sql.load(__file__)

EXPIRING_SOON = timedelta(days=7)
"""What expires within this time is worth telling."""
WARNINGS_SHOWN = 5

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


class Expiry(TypedDict):
    """`amount` credits end at `at` unless they are spent before; held ones cannot."""

    at: datetime
    amount: int


class ExpiryOf(Expiry):
    """The same, of one kind."""

    kind: Kind


class CreditsReply(TypedDict):
    """A person's credits. `low`: the next small order would be let through with a warning or not at all.

    `expiring_soon` tells of the next 7 days; `warnings` are the last ones that were given, newest first.
    """

    available: int
    held: int
    posted: int
    overdraft_used: int
    overdraft_limit: int
    buckets: list[BucketReply]
    next_daily_grant_at: datetime | None
    next_daily_credits: int
    next_expiry: Expiry | None
    expiring_soon: list[ExpiryOf]
    plan: str
    policy: Policy
    low_balance_threshold: int
    time_zone: str
    low: bool
    warnings: list[WarningReply]
    upgrade_url: str | None


@router.get("/v1/credits", operation_id="getCredits", response_model=CreditsReply)
async def get_credits(request: Request, person: SignedIn) -> Response:
    """What the person can spend. The first look of a day in their time zone gives that day's free credits."""
    state = state_of(request)
    await refresh(state, user_id=person.user_id)
    return replies.json_response(await credits_of(state, user_id=person.user_id))


async def refresh(state: State, *, user_id: str) -> None:
    """A person looks: what the clock has done is written down, and today's credits are given.

    Never fails because the account is busy: whoever reads afterwards reads by the clock, written down or not.
    """
    with contextlib.suppress(AccountBusy, *BUSY):
        async with state.connection() as connection:
            written = await ledger.refresh(connection, user_id=user_id)
        if written:
            state.hub.tell(user_id)


async def credits_of(state: State, *, user_id: str) -> CreditsReply:
    """What a person has by the clock; somebody new has what their first look would give them."""
    async with state.reading_as(user_id) as connection:
        # A credit is the smallest price there can be, so this decision tells whether the person is low.
        decision = await ledger.decide(connection, user_id=user_id, amount=1)
        buckets = await ledger.buckets(connection, user_id)
        [terms] = await connection.fetch(_SQL["terms"], user_id)
        crossings = await warned.latest(connection, user_id=user_id, limit=WARNINGS_SHOWN)
    balance, low = decision.balance, decision.verdict != "allow"
    ends = expiries(buckets)
    return {
        "available": balance.available,
        "held": balance.held,
        "posted": balance.posted,
        "overdraft_used": balance.overdraft_used,
        "overdraft_limit": balance.overdraft_limit,
        "buckets": [_bucket_reply(bucket) for bucket in buckets],
        "next_daily_grant_at": decision.next_daily_at,
        "next_daily_credits": decision.next_daily_credits,
        "next_expiry": next_expiry(ends),
        "expiring_soon": [end for end in ends if end["at"] <= datetime.now(UTC) + EXPIRING_SOON],
        "plan": terms["plan"],
        "policy": terms["policy"],
        "low_balance_threshold": terms["low_balance_threshold"],
        "time_zone": terms["time_zone"],
        "low": low,
        "warnings": [warned.warning_reply(crossing) for crossing in crossings],
        "upgrade_url": state.settings.upgrade_url if low else None,
    }


def expiries(buckets: Sequence[Bucket]) -> list[ExpiryOf]:
    """What of these would end when, soonest first: one line for each moment and kind."""
    ends: Counter[tuple[datetime, Kind]] = Counter()
    for bucket in buckets:
        if bucket.expires_at is not None and bucket.remaining > 0:
            ends[bucket.expires_at, bucket.kind] += bucket.remaining
    return [{"at": at, "amount": amount, "kind": kind} for (at, kind), amount in sorted(ends.items())]


def next_expiry(ends: Sequence[ExpiryOf]) -> Expiry | None:
    """All that goes at the first of these moments."""
    if not ends:
        return None
    at = ends[0]["at"]
    return {"at": at, "amount": sum(end["amount"] for end in ends if end["at"] == at)}


def _bucket_reply(bucket: Bucket) -> BucketReply:
    return {
        "kind": bucket.kind,
        "source_ref": bucket.source_ref,
        "granted": bucket.granted,
        "remaining": bucket.remaining,
        "held": bucket.held,
        "effective_at": bucket.effective_at,
        "expires_at": bucket.expires_at,
    }
