"""The model's buckets, the order in which they are drawn from, and the holds on them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

_NEVER = datetime.max.replace(tzinfo=UTC)
_PROMOTIONAL_BEFORE_PAID = ["daily", "promo", "adjust", "plan", "paid"]

_ages = count(1)


@dataclass(slots=True, kw_only=True)
class Bucket:
    kind: str
    ref: str
    granted: int
    effective_at: datetime
    expires_at: datetime | None = None
    priority: int = 100
    remaining: int = 0
    held: int = 0
    arrived: bool = False
    reversed_by: tuple[int | None] | None = None
    age: int = field(default_factory=lambda: next(_ages))

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.ref}"

    @property
    def ends(self) -> datetime:
        return self.expires_at or _NEVER

    @property
    def order(self) -> tuple[object, ...]:
        kind = _PROMOTIONAL_BEFORE_PAID.index(self.kind)
        return self.priority, self.ends, kind, self.effective_at, self.age

    def spendable(self, now: datetime) -> bool:
        return self.remaining > 0 and self.effective_at <= now < self.ends


@dataclass(slots=True)
class Hold:
    hold_id: UUID
    quoted: int
    expires_at: datetime
    parts: list[tuple[Bucket | None, int]]
    generation_id: UUID
    state: str = "open"
    final: bool = False
    charged: int = 0
    reversed_by: tuple[int | None] | None = None


def draw(buckets: list[Bucket], amount: int, now: datetime) -> list[tuple[Bucket, int]]:
    """Take so much from what can be spent now, or as much as there is: which bucket gave how much."""
    drawn = []
    for bucket in sorted((b for b in buckets if b.spendable(now)), key=lambda bucket: bucket.order):
        taken = min(bucket.remaining, amount)
        if taken:
            bucket.remaining -= taken
            amount -= taken
            drawn.append((bucket, taken))
    return drawn
