"""What the ledger answers with. Amounts are whole credits."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Policy = Literal["hard", "soft", "off"]
Kind = Literal["daily", "promo", "adjust", "plan", "paid"]
Verdict = Literal["allow", "warn", "block"]


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
        affordable: the largest amount that would not be blocked; None when nothing is.
        next_daily_at: when the next daily credits come, if that was looked up and there are any.
        next_daily_credits: how many.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    shortfall: int
    remaining: int
    balance: Balance
    affordable: int | None
    next_daily_at: datetime | None = None
    next_daily_credits: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """An adjustment or reversal: `amount` is what the person's credits changed by, below 0 when they were taken.

    `spent` is the part of a reversed grant that was gone already, and stays so.
    """

    amount: int
    replayed: bool
    balance: Balance
    spent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What an account's entries came to at a moment: after entry `seq`, 0 before the first.

    Attributes:
        posted: credits that had not been spent, held ones and those effective later included.
        held: promised to running work, from credits and from the overdraft.
        overdraft_used: debt.
    """

    seq: int
    posted: int
    held: int
    overdraft_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A threshold that was crossed on the way down: "low-balance" or "overdraft"."""

    warning_id: int
    code: str
    available: int
    at: datetime


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
    """What the clock had done and is now written down: holds that lapsed, credits that ran out.

    `failed` counts accounts that contradict themselves and were left alone: call the auditor.
    """

    accounts: int
    holds: int
    credits: int
    failed: int = 0
