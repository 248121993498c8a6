"""The rules of ledger.md once more, in plain Python over lists, to predict every movement the database will write."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID

from shared import ledger
from shared.errors import InvalidAmount, KeyReused, NotCharged, NotEnough, OverCapture
from tests.ledger.buckets import Bucket, Hold, draw
from tests.ledger.days import local_date, midnight_after

Move = tuple[str, str, str, int, str | None]
"""Kind, from, to, amount, and the bucket by its name."""

_EVERYTHING = 10**18


@dataclass(slots=True)
class Model:
    """One account. `moves` is everything that was ever written for it, `warnings` all it was told."""

    policy: str
    limit: int
    threshold: int
    daily: int = 0
    zone: str = "UTC"
    used: int = 0
    overdraft_held: int = 0
    warned: int = 0
    buckets: list[Bucket] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    warnings: list[tuple[str, int]] = field(default_factory=list)

    def available(self, now: datetime) -> int:
        return sum(bucket.remaining for bucket in self.buckets if bucket.spendable(now))

    def balance(self, now: datetime) -> ledger.Balance:
        return ledger.Balance(
            available=self.available(now),
            held=sum(bucket.held for bucket in self.buckets) + self.overdraft_held,
            posted=sum(bucket.remaining + bucket.held for bucket in self.buckets),
            overdraft_used=self.used,
            overdraft_limit=self.limit,
        )

    def decide(self, amount: int, now: datetime, *, quote: bool = True) -> ledger.Decision:
        """After `look`. A quote, like a denial, tells when the next daily credits come; a held answer does not."""
        balance = self.balance(now)
        missing, remaining = max(amount - balance.available, 0), balance.available - amount
        lent = {"hard": 0, "soft": self.limit - self.overdraft_held, "off": _EVERYTHING}[self.policy]
        blocked = missing > 0 and missing > lent - self.used
        reasons = ["overdraft"] * (missing > 0) + ["low-balance"] * (remaining < self.threshold) if amount else []
        verdict: ledger.Verdict = "block" if blocked else "warn" if reasons else "allow"
        if blocked:
            reasons = ["overdraft-limit" if self.policy == "soft" and self.limit else "insufficient-credits"]
        tells = self.daily if quote or blocked else 0
        return ledger.Decision(
            verdict=verdict,
            reasons=tuple(reasons),
            shortfall=missing + self.used - max(lent, 0) if blocked else 0,
            remaining=remaining,
            balance=balance,
            affordable=None if self.policy == "off" else balance.available + max(lent - self.used, 0),
            next_daily_at=self.next_daily(now) if tells else None,
            next_daily_credits=tells,
        )

    def days(self) -> dict[date, Bucket]:
        return {date.fromisoformat(b.ref): b for b in self.buckets if b.kind == "daily"}

    def next_daily(self, now: datetime) -> datetime:
        day = local_date(now, self.zone)
        while day + timedelta(days=1) in self.days():
            day += timedelta(days=1)
        return midnight_after(day, self.zone, now)

    def look(self, now: datetime) -> None:
        """A person comes, by themselves or with a job: the clock is obeyed and today's credits are given."""
        self.tidy(now)
        day = local_date(now, self.zone)
        if self.daily and day not in self.days():
            ends = midnight_after(day, self.zone, now)
            self.grant(
                Bucket(kind="daily", ref=day.isoformat(), granted=self.daily, effective_at=now, expires_at=ends), now
            )

    def move_to(self, zone: str, now: datetime) -> None:
        """Credits of days that are not over there last until they are."""
        self.zone = zone
        for day, bucket in self.days().items():
            over = local_date(now, zone) > day or bucket.remaining + bucket.held == 0
            if not over and bucket.expires_at and bucket.expires_at > now:
                bucket.expires_at = max(bucket.expires_at, midnight_after(day, zone, now))

    def grant(self, bucket: Bucket, now: datetime, kind: str = "grant", source: str = "issued") -> None:
        bucket.remaining, bucket.arrived = bucket.granted, bucket.effective_at <= now
        self.moves.append((kind, source, "available", bucket.granted, bucket.name))
        self.buckets.append(bucket)
        self.tidy(now)
        self.calm(now)

    def may_hold(self, generation_id: UUID) -> bool:
        """A generation has one hold at a time, and none after it was charged."""
        return all(h.final and not h.charged for h in self.holds if h.generation_id == generation_id)

    def reserve(self, hold_id: UUID, amount: int, expires_at: datetime, now: datetime, *, generation_id: UUID) -> None:
        """Only what was not blocked; `look` comes first either way."""
        verdict = self.decide(amount, now).verdict
        parts: list[tuple[Bucket | None, int]] = []
        for bucket, taken in draw(self.buckets, amount, now):
            bucket.held += taken
            parts.append((bucket, taken))
            self.moves.append(("reserve", "available", "held", taken, bucket.name))
        missing = amount - sum(taken for _, taken in parts)
        if missing:
            self.overdraft_held += missing
            parts.append((None, missing))
            self.moves.append(("reserve", "overdraft", "overdraft_held", missing, None))
        self.holds.append(Hold(hold_id, amount, expires_at, parts, generation_id))
        if verdict == "warn":
            self.warn(now)

    def settle(self, hold: Hold, amount: int, state: str, now: datetime) -> None:
        """End an open hold: charge the first `amount` of it, give the rest back from the end."""
        hold.state, hold.final, hold.charged = state, state != "expired", amount
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
        self.look(now)
        hold.final, hold.charged = True, amount
        for bucket, taken in draw(self.buckets, amount, now):
            amount -= taken
            self.moves.append(("capture", "available", "revenue", taken, bucket.name))
        if amount:
            self.used += amount
            self.moves.append(("capture", "overdraft", "revenue", amount, None))
        self.warn(now)

    def adjust_down(self, amount: int, now: datetime) -> None:
        self.look(now)
        if self.available(now) < amount:
            raise NotEnough("")
        for bucket, taken in draw(self.buckets, amount, now):
            self.moves.append(("adjust", "available", "reversed", taken, bucket.name))
        self.warn(now)

    def reverse_grant(self, bucket: Bucket, amount: int | None, now: datetime) -> int:
        """How many credits were taken."""
        if bucket.reversed_by not in {None, (amount,)}:
            raise KeyReused("")
        if amount is not None and not 1 <= amount <= bucket.granted:
            raise InvalidAmount("")
        self.tidy(now)
        bucket.reversed_by = (amount,)
        taken = bucket.remaining if amount is None else min(bucket.remaining, amount)
        if amount is None and now < bucket.ends:
            bucket.expires_at = max(now, bucket.effective_at + timedelta(microseconds=1))
        bucket.remaining -= taken
        if taken:
            self.moves.append(("reverse", "available", "reversed", taken, bucket.name))
            self.warn(now)
        return taken

    def reverse_charge(self, hold: Hold, amount: int | None, now: datetime) -> int:
        """How many credits were given back."""
        if hold.reversed_by not in {None, (amount,)}:
            raise KeyReused("")
        given = hold.charged if amount is None else amount
        if hold.charged == 0:
            raise NotCharged("")
        if given > hold.charged:
            raise OverCapture("")
        if given < 1:
            raise InvalidAmount("")
        hold.reversed_by = (amount,)
        bucket = Bucket(kind="adjust", ref=f"reverse:{hold.hold_id}", granted=given, effective_at=now)
        self.grant(bucket, now, "reverse", "revenue")
        return given

    def level(self, now: datetime) -> int:
        """How far down: 2 in debt or about to be, 1 little left."""
        return 2 if self.used + self.overdraft_held else int(self.available(now) < self.threshold)

    def warn(self, now: datetime) -> None:
        """Tell each threshold once on the way down."""
        level, available = self.level(now), self.available(now)
        if level > 0 and self.warned < 1 and available < self.threshold:
            self.warnings.append(("low-balance", available))
        if level > 1 and self.warned < 2:
            self.warnings.append(("overdraft", available))
        self.warned = max(self.warned, level)

    def calm(self, now: datetime) -> None:
        """Credits came in."""
        self.warned = min(self.warned, self.level(now))

    def expire(self, now: datetime) -> int:
        """How many holds lapsed."""
        due = [hold for hold in self.holds if hold.state == "open" and hold.expires_at <= now]
        for hold in sorted(due, key=lambda hold: (hold.expires_at, hold.hold_id)):
            self.settle(hold, 0, "expired", now)
        self.tidy(now)
        return len(due)

    def tidy(self, now: datetime) -> None:
        """Write down expired credits, pay debt from what can be spent."""
        coming = [b for b in self.buckets if not b.arrived and b.effective_at <= now]
        came = any(b.remaining + b.held for b in coming)
        for bucket in coming:
            bucket.arrived = True
        expired = [b for b in self.buckets if b.remaining and b.expires_at is not None and b.expires_at <= now]
        for bucket in sorted(expired, key=lambda bucket: (bucket.ends, bucket.age)):
            self.moves.append(("expire", "available", "expired", bucket.remaining, bucket.name))
            bucket.remaining = 0
        for bucket, taken in draw(self.buckets, self.used, now):
            self.used -= taken
            self.moves.append(("repay", "available", "overdraft", taken, bucket.name))
        if came:
            self.calm(now)

    def _charge(self, bucket: Bucket | None, amount: int) -> None:
        if not amount:
            return
        if bucket is None:
            self.overdraft_held -= amount
            self.used += amount
            self.moves.append(("capture", "overdraft_held", "revenue", amount, None))
        else:
            bucket.held -= amount
            self.moves.append(("capture", "held", "revenue", amount, bucket.name))

    def _return(self, bucket: Bucket | None, amount: int, kind: str) -> None:
        if not amount:
            return
        if bucket is None:
            self.overdraft_held -= amount
            self.moves.append((kind, "overdraft_held", "overdraft", amount, None))
        else:
            bucket.held -= amount
            bucket.remaining += amount
            self.moves.append((kind, "held", "available", amount, bucket.name))
