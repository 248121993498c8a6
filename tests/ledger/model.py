"""The rules of ledger.md once more, in plain Python over lists, to predict every movement the database will write."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from shared import ledger

Move = tuple[str, str, str, int, int | None]

_NEVER = datetime.max.replace(tzinfo=UTC)
_PROMOTIONAL_BEFORE_PAID = ["daily", "promo", "adjust", "plan", "paid"]


@dataclass(slots=True)
class Bucket:
    bucket_id: int
    kind: str
    priority: int
    effective_at: datetime
    expires_at: datetime | None
    remaining: int
    held: int = 0

    @property
    def order(self) -> tuple[object, ...]:
        kind = _PROMOTIONAL_BEFORE_PAID.index(self.kind)
        return self.priority, self.expires_at or _NEVER, kind, self.effective_at, self.bucket_id

    def spendable(self, now: datetime) -> bool:
        return self.remaining > 0 and self.effective_at <= now < (self.expires_at or _NEVER)


@dataclass(slots=True)
class Hold:
    hold_id: UUID
    quoted: int
    expires_at: datetime
    parts: list[tuple[Bucket | None, int]]
    state: str = "open"
    final: bool = False


@dataclass(slots=True)
class Model:
    """One account. `moves` is everything that was ever written for it."""

    policy: str
    limit: int
    threshold: int
    used: int = 0
    overdraft_held: int = 0
    buckets: list[Bucket] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)

    def balance(self, now: datetime) -> ledger.Balance:
        return ledger.Balance(
            available=sum(bucket.remaining for bucket in self.buckets if bucket.spendable(now)),
            held=sum(bucket.held for bucket in self.buckets) + self.overdraft_held,
            posted=sum(bucket.remaining + bucket.held for bucket in self.buckets),
            overdraft_used=self.used,
            overdraft_limit=self.limit,
        )

    def decide(self, amount: int, now: datetime) -> ledger.Decision:
        balance = self.balance(now)
        room = {"hard": 0, "soft": self.limit - self.used - self.overdraft_held, "off": amount}[self.policy]
        missing = max(amount - balance.available, 0)
        remaining = balance.available - amount
        affordable = None if self.policy == "off" else balance.available + max(room, 0)
        if missing and missing > room:
            lent = max(self.limit - self.overdraft_held, 0) if self.policy == "soft" else 0
            shortfall = missing + self.used - lent
            reason = "overdraft-limit" if self.policy == "soft" and self.limit else "insufficient-credits"
            return ledger.Decision(
                verdict="block",
                reasons=(reason,),
                shortfall=shortfall,
                remaining=remaining,
                balance=balance,
                affordable=affordable,
            )
        reasons = [
            code
            for code, holds in (("overdraft", missing > 0), ("low-balance", remaining < self.threshold))
            if holds and amount
        ]
        verdict: ledger.Verdict = "warn" if reasons else "allow"
        return ledger.Decision(
            verdict=verdict,
            reasons=tuple(reasons),
            shortfall=0,
            remaining=remaining,
            balance=balance,
            affordable=affordable,
        )

    def grant(self, bucket: Bucket, now: datetime) -> None:
        self.moves.append(("grant", "issued", "available", bucket.remaining, bucket.bucket_id))
        self.buckets.append(bucket)
        self.tidy(now)

    def reserve(self, hold_id: UUID, amount: int, expires_at: datetime, now: datetime) -> None:
        """Only what was not blocked; `tidy` comes first either way."""
        parts: list[tuple[Bucket | None, int]] = []
        for bucket, taken in self._draw(amount, now):
            bucket.held += taken
            parts.append((bucket, taken))
            self.moves.append(("reserve", "available", "held", taken, bucket.bucket_id))
        missing = amount - sum(taken for _, taken in parts)
        if missing:
            self.overdraft_held += missing
            parts.append((None, missing))
            self.moves.append(("reserve", "overdraft", "overdraft_held", missing, None))
        self.holds.append(Hold(hold_id, amount, expires_at, parts))

    def settle(self, hold: Hold, amount: int, state: str, now: datetime) -> None:
        """End an open hold: charge the first `amount` of it, give the rest back from the end."""
        hold.state, hold.final = state, state != "expired"
        back = []
        for bucket, taken in hold.parts:
            charged = min(taken, amount)
            amount -= charged
            self._charge(bucket, charged)
            back.append((bucket, taken - charged))
        for bucket, returned in reversed(back):
            self._return(bucket, returned, "lapse" if state == "expired" else "release")
        self.tidy(now)

    def capture_late(self, hold: Hold, amount: int, now: datetime) -> None:
        self.tidy(now)
        hold.final = True
        for bucket, taken in self._draw(amount, now):
            amount -= taken
            self.moves.append(("capture", "available", "revenue", taken, bucket.bucket_id))
        if amount:
            self.used += amount
            self.moves.append(("capture", "overdraft", "revenue", amount, None))

    def expire(self, now: datetime) -> int:
        """How many holds lapsed."""
        due = [hold for hold in self.holds if hold.state == "open" and hold.expires_at <= now]
        for hold in sorted(due, key=lambda hold: (hold.expires_at, hold.hold_id)):
            self.settle(hold, 0, "expired", now)
        self.tidy(now)
        return len(due)

    def tidy(self, now: datetime) -> None:
        """Write down expired credits, pay debt from what can be spent."""
        expired = [b for b in self.buckets if b.remaining and b.expires_at is not None and b.expires_at <= now]
        for bucket in sorted(expired, key=lambda bucket: (bucket.expires_at or _NEVER, bucket.bucket_id)):
            self.moves.append(("expire", "available", "expired", bucket.remaining, bucket.bucket_id))
            bucket.remaining = 0
        for bucket, taken in self._draw(self.used, now):
            self.used -= taken
            self.moves.append(("repay", "available", "overdraft", taken, bucket.bucket_id))

    def _draw(self, amount: int, now: datetime) -> list[tuple[Bucket, int]]:
        drawn = []
        for bucket in sorted((b for b in self.buckets if b.spendable(now)), key=lambda bucket: bucket.order):
            taken = min(bucket.remaining, amount)
            if taken:
                bucket.remaining -= taken
                amount -= taken
                drawn.append((bucket, taken))
        return drawn

    def _charge(self, bucket: Bucket | None, amount: int) -> None:
        if not amount:
            return
        if bucket is None:
            self.overdraft_held -= amount
            self.used += amount
            self.moves.append(("capture", "overdraft_held", "revenue", amount, None))
        else:
            bucket.held -= amount
            self.moves.append(("capture", "held", "revenue", amount, bucket.bucket_id))

    def _return(self, bucket: Bucket | None, amount: int, kind: str) -> None:
        if not amount:
            return
        if bucket is None:
            self.overdraft_held -= amount
            self.moves.append((kind, "overdraft_held", "overdraft", amount, None))
        else:
            bucket.held -= amount
            bucket.remaining += amount
            self.moves.append((kind, "held", "available", amount, bucket.bucket_id))
