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
from shared.credits import Balance, Bucket, Decision, Expired, Grant, Kind, Policy, Reservation, Settlement, Verdict
from shared.database import Connection
from shared.errors import (
    AccountBusy,
    GrantConflict,
    HoldExists,
    HoldNotOpen,
    InvalidAmount,
    KeyReused,
    OverCapture,
    TwinError,
    UnknownHold,
)

__all__ = [
    "Balance", "Bucket", "Decision", "Expired", "Grant", "Kind", "Policy", "Reservation", "Settlement", "Verdict",
    "balance", "buckets", "capture", "decide", "expire", "expire_due", "grant", "open_account", "release", "reserve",
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
    "55P03": AccountBusy,
}


async def _call(conn: Connection, name: str, *arguments: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = orjson.loads(await conn.fetchval(_SQL[name], *arguments))
    except asyncpg.PostgresError as error:
        known = _ERRORS.get(error.sqlstate or "")
        if known is None:
            raise
        raise known(str(error.args[0])) from error
    return answer


def _settlement(answer: dict[str, Any]) -> Settlement:
    balance = Balance(**answer.pop("balance"))
    return Settlement(balance=balance, **answer)


def _decision(answer: dict[str, Any]) -> Decision:
    reasons, balance = tuple(answer.pop("reasons")), Balance(**answer.pop("balance"))
    return Decision(reasons=reasons, balance=balance, **answer)


async def open_account(
    conn: Connection,
    *,
    user_id: str,
    policy: Policy = "soft",
    overdraft_limit: int = 0,
    low_balance_threshold: int = 10,
    plan: str = "free",
    time_zone: str = "UTC",
) -> bool:
    """Open an account on these terms. False when it exists, which then stays as it is."""
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
    now: datetime | None = None,
) -> Grant:
    """Give credits, opening the account if it is new. Once per (user, kind, source_ref); debt is paid first.

    Raises:
        GrantConflict: the source_ref was granted before with another amount, priority or dates.
        InvalidAmount, KeyReused.
    """
    answer = await _call(
        conn, "grant", user_id, key, amount, kind, source_ref, actor, priority, effective_at, expires_at, now
    )
    balance = Balance(**answer.pop("balance"))
    return Grant(balance=balance, **answer)


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
        HoldExists: the generation has a hold under another key.
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
