"""The only way credits move. One call is one database function; the rules are in the migration `…_twin_ledger.sql`.

Functions take a connection, never commit, and are idempotent by key: the same key and request give the stored outcome
again (a denial too) with `replayed` set; the same key with another request raises KeyReused. Amounts are whole credits.
`now` is for tests; None is the database's clock. Any of them raises AccountBusy when the account stays locked; an
exception aborts the surrounding transaction.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import orjson
import uuid_utils.compat

from shared import sql
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

_SQL = sql.load(__file__)

Policy = Literal["hard", "soft", "off"]
Kind = Literal["daily", "promo", "adjust", "plan", "paid"]
Verdict = Literal["allow", "warn", "block"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What a person has.

    Attributes:
        available: can be spent now; credits that have expired or are not yet effective are not in it.
        held: promised to running work, from credits and from the overdraft.
        posted: all credits that have not been spent: available, held ones, and those effective later.
        overdraft_used: debt; paid first by whatever comes in.
        overdraft_limit: how far `overdraft_used` may go at admission.
    """

    available: int
    held: int
    posted: int
    overdraft_used: int
    overdraft_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether an amount may be reserved.

    Attributes:
        verdict: allow, warn (allowed, and the person should know) or block.
        reasons: codes: "low-balance", "overdraft", "insufficient-credits", "overdraft-limit".
        shortfall: credits that would have to arrive before the amount is allowed; 0 unless blocked.
        remaining: available minus the amount; below 0 the overdraft is drawn, or credits are missing.
        balance: the balance that was judged, before the amount is taken.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    shortfall: int
    remaining: int
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A bucket of credits; `replayed` when it had been given before, under this key or this source_ref."""

    bucket_id: int
    amount: int
    replayed: bool
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The answer to a reserve; `hold_id` is None when denied. `balance` is the one after it."""

    outcome: Literal["held", "denied"]
    hold_id: UUID | None
    decision: Decision
    replayed: bool
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a hold ended: what was charged and what went back. `late`: charged after the hold had expired."""

    captured: int
    released: int
    late: bool
    replayed: bool
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Credits of one origin. `remaining` can be spent from `effective_at` to `expires_at`; `held` is promised."""

    bucket_id: int
    kind: Kind
    priority: int
    granted: int
    remaining: int
    held: int
    effective_at: datetime
    expires_at: datetime | None
    source_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What the clock had done and is now written down: holds that lapsed, credits that ran out."""

    accounts: int
    holds: int
    credits: int


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
