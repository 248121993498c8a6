"""The only way credits move. One call is one database function; the rules are in the migration `…_twin_ledger.sql`.

Functions take a connection, never commit, and are idempotent by key: the same key and request give the stored outcome
again (a denial too) with `replayed` set; the same key with another request raises KeyReused. Amounts are whole credits.
`now` is for tests; None is the database's clock. Any of them raises AccountBusy when the account stays locked; an
exception aborts the surrounding transaction. The account is locked until the transaction ends, so whoever also locks a
generation locks that first.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import uuid_utils.compat

from shared import sql
from shared.credits import (
    Balance,
    Books,
    Bucket,
    Crossing,
    Decision,
    Expired,
    Grant,
    Kind,
    Policy,
    Reservation,
    Settlement,
    Verdict,
)
from shared.database import Connection
from shared.errors import (
    AccountBusy,
    GrantConflict,
    HoldExists,
    HoldNotOpen,
    InvalidAmount,
    KeyReused,
    NotCharged,
    NotEnough,
    OverCapture,
    TwinError,
    UnknownGrant,
    UnknownHold,
    UnknownPlan,
    UnknownTimeZone,
)

__all__ = [
    "Balance", "Books", "Bucket", "Crossing", "Decision", "Expired", "Grant", "Kind", "Policy",
    "Reservation", "Settlement", "Verdict",
    "balance", "books_at", "buckets", "call", "capture", "crossings", "decide", "expire", "expire_due",
    "grant", "open_account", "refresh", "release", "reserve",
]  # fmt: skip

_SQL = sql.load(__file__)

_ERRORS: dict[str, type[TwinError]] = {
    "TW001": KeyReused,
    "TW002": UnknownHold,
    "TW003": HoldNotOpen,
    "TW004": OverCapture,
    "TW005": HoldExists,
    "TW006": GrantConflict,
    "TW007": InvalidAmount,
    "TW009": NotEnough,
    "TW010": UnknownPlan,
    "TW011": UnknownTimeZone,
    "TW012": UnknownGrant,
    "TW013": NotCharged,
    "55P03": AccountBusy,
}
_BUSY = "Somebody else is at work on this just now. Nothing was done; please try again."


async def call(conn: Connection, statement: str, *arguments: Any) -> dict[str, Any]:
    """Call a function of the ledger that answers in JSON text; its SQLSTATEs become our errors, here alone."""
    try:
        answer: dict[str, Any] = orjson.loads(await conn.fetchval(statement, *arguments))
    except asyncpg.PostgresError as error:
        known = _ERRORS.get(error.sqlstate or "")
        if known is None:
            raise
        raise known(_BUSY if known is AccountBusy else str(error.args[0])) from error
    return answer


async def _call(conn: Connection, name: str, *arguments: Any) -> dict[str, Any]:
    return await call(conn, _SQL[name], *arguments)


def _settlement(answer: dict[str, Any]) -> Settlement:
    return Settlement(
        captured=answer["captured"],
        released=answer["released"],
        late=answer["late"],
        replayed=answer["replayed"],
    )


def _decision(answer: dict[str, Any]) -> Decision:
    daily = answer.get("next_daily")
    return Decision(
        verdict=answer["verdict"],
        reasons=tuple(answer["reasons"]),
        shortfall=answer["shortfall"],
        remaining=answer["remaining"],
        balance=Balance(**answer["balance"]),
        affordable=answer.get("affordable"),
        next_daily_at=datetime.fromisoformat(daily["at"]) if daily else None,
        next_daily_credits=daily["credits"] if daily else 0,
    )


async def open_account(
    conn: Connection,
    *,
    user_id: str,
    policy: Policy | None = None,
    overdraft_limit: int | None = None,
    low_balance_threshold: int | None = None,
    plan: str = "free",
    time_zone: str = "UTC",
) -> bool:
    """Open an account on these terms, None being the plan's. False when it exists, which then stays as it is."""
    opened: bool = await conn.fetchval(
        _SQL["open_account"], user_id, policy, overdraft_limit, low_balance_threshold, plan, time_zone
    )
    return opened


async def grant(
    conn: Connection,
    *,
    user_id: str,
    key: str,
    amount: int,
    kind: Kind,
    source_ref: str,
    actor: str,
    priority: int | None = None,
    effective_at: datetime | None = None,
    expires_at: datetime | None = None,
    paid_amount: int | None = None,
    paid_currency: str | None = None,
    now: datetime | None = None,
) -> Grant:
    """Give credits, opening the account if it is new. Once per (user, kind, source_ref); debt is paid first.

    A purchase says what was paid: `paid_amount` in the smallest unit of `paid_currency` (ISO 4217), kind "paid".

    Raises:
        GrantConflict: the source_ref was granted before with another amount, priority, payment or dates.
        InvalidAmount, KeyReused.
    """
    terms = (priority, effective_at, expires_at, now, paid_amount, paid_currency)
    answer = await _call(conn, "grant", user_id, key, amount, kind, source_ref, actor, *terms)
    return Grant(
        bucket_id=answer["bucket_id"],
        amount=answer["amount"],
        replayed=answer["replayed"],
        balance=Balance(**answer["balance"]),
    )


async def reserve(
    conn: Connection,
    *,
    user_id: str,
    key: str,
    generation_id: UUID,
    amount: int,
    expires_at: datetime,
    price: dict[str, Any],
    now: datetime | None = None,
) -> Reservation:
    """Hold `amount` credits (0 is allowed) for a generation, or be denied. `price` is kept on the hold as it is.

    The request is the key, the generation, the amount and the price; a retry may come with a later `expires_at`.

    Raises:
        HoldExists: the generation has a hold under another key that has not ended or was charged.
        InvalidAmount, KeyReused.
    """
    price_text = orjson.dumps(price).decode()
    hold_id = uuid_utils.compat.uuid7()
    answer = await _call(conn, "reserve", user_id, key, generation_id, amount, expires_at, price_text, hold_id, now)
    return Reservation(
        outcome=answer["outcome"],
        hold_id=UUID(answer["hold_id"]) if answer["hold_id"] else None,
        decision=_decision(answer["decision"]),
        replayed=answer["replayed"],
        balance=Balance(**answer["balance"]),
    )


async def capture(conn: Connection, *, hold_id: UUID, key: str, amount: int, now: datetime | None = None) -> Settlement:
    """Charge `amount` (0 to the quote) of a hold and give back the rest.

    After the hold has expired this is a late capture: charged from what is available, then from the overdraft even
    beyond its limit; `late` is set.

    Raises:
        OverCapture, HoldNotOpen, UnknownHold, InvalidAmount, KeyReused.
    """
    return _settlement(await _call(conn, "capture", hold_id, key, amount, now))


async def release(conn: Connection, *, hold_id: UUID, key: str, reason: str, now: datetime | None = None) -> Settlement:
    """Give a whole hold back. On an expired hold, which gave it back already, it says that nothing will come late.

    Raises:
        HoldNotOpen, UnknownHold, KeyReused.
    """
    return _settlement(await _call(conn, "release", hold_id, key, reason, now))


async def refresh(conn: Connection, *, user_id: str, now: datetime | None = None) -> bool:
    """A person looks: write down what the clock has done, and give today's credits. True when anything was written."""
    try:
        written: bool = await conn.fetchval(_SQL["refresh"], user_id, now)
    except asyncpg.LockNotAvailableError as error:
        raise AccountBusy(_BUSY) from error
    return written


async def expire(conn: Connection, *, user_id: str, now: datetime | None = None) -> Expired:
    """Write down what the clock has done to one account: holds past their end, then buckets past theirs."""
    return Expired(accounts=1, **await _call(conn, "expire", user_id, now))


async def expire_due(conn: Connection, *, limit: int, now: datetime | None = None) -> Expired:
    """Do that for up to `limit` accounts that are due, passing over locked ones; they stay locked until commit."""
    return Expired(**await _call(conn, "expire_due", limit, now))


async def balance(conn: Connection, *, user_id: str, now: datetime | None = None) -> Balance:
    """What a person has by the clock; writes nothing. Zeros for somebody the ledger has not met."""
    return Balance(**await _call(conn, "balance", user_id, now))


async def decide(conn: Connection, *, user_id: str, amount: int, now: datetime | None = None) -> Decision:
    """What `reserve` would say to this amount now; writes nothing."""
    return _decision(await _call(conn, "decide", user_id, amount, now))


async def buckets(conn: Connection, user_id: str, now: datetime | None = None) -> list[Bucket]:
    """A person's buckets that still hold credits, in spending order; those effective later are among them."""
    return [Bucket(**row) for row in await conn.fetch(_SQL["buckets"], user_id, now)]


async def books_at(conn: Connection, *, user_id: str, at: datetime) -> Books:
    """What the entries came to at a moment. What the clock did is in it from when it was written down.

    Entries are in the order they were made. Where the database's clock was set back, a moment that it passed twice is
    told as of one of the two times; statements from and to such moments still add up.
    """
    return Books(**await _call(conn, "books_at", user_id, at))


async def crossings(conn: Connection, *, user_id: str, after: int, limit: int) -> list[Crossing]:
    """The warnings a person was given after that one, oldest first."""
    return [Crossing(**row) for row in await conn.fetch(_SQL["crossings"], user_id, after, limit)]
