"""A person at the counter: one account on one connection, with a time of its own, and short words."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from shared import ledger
from shared.database import Connection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICE = {"price_version": 2, "type": "image", "unit_credits": 5, "batch_size": 1, "multiplier_permille": 1000}

_numbers = count(1)


def fresh(what: str) -> str:
    """A key or reference nobody used before."""
    return f"{what}-{next(_numbers)}"


@dataclass
class Teller:
    conn: Connection
    user_id: str = field(default_factory=lambda: f"user_{uuid4().hex}")
    now: datetime = NOON

    async def open(self, **terms: Any) -> "Teller":
        await ledger.open_account(self.conn, user_id=self.user_id, **terms)
        return self

    def after(self, hours: float) -> "Teller":
        """Let time pass."""
        self.now += hours * HOUR
        return self

    async def grant(
        self,
        amount: int,
        kind: ledger.Kind = "paid",
        *,
        ref: str | None = None,
        key: str | None = None,
        priority: int | None = None,
        starts: float | None = None,
        lasts: float | None = None,
    ) -> ledger.Grant:
        """`starts` and `lasts` are hours from now."""
        return await ledger.grant(
            self.conn,
            user_id=self.user_id,
            key=key or fresh("grant"),
            amount=amount,
            kind=kind,
            source_ref=ref or fresh("ref"),
            actor="tester",
            priority=priority,
            effective_at=None if starts is None else self.now + starts * HOUR,
            expires_at=None if lasts is None else self.now + lasts * HOUR,
            now=self.now,
        )

    async def reserve(
        self, amount: int, *, key: str | None = None, generation_id: UUID | None = None, lasts: float = 1
    ) -> ledger.Reservation:
        return await ledger.reserve(
            self.conn,
            user_id=self.user_id,
            key=key or fresh("reserve"),
            generation_id=generation_id or uuid4(),
            amount=amount,
            expires_at=self.now + lasts * HOUR,
            price=PRICE,
            now=self.now,
        )

    async def hold(self, amount: int, *, lasts: float = 1) -> UUID:
        reservation = await self.reserve(amount, lasts=lasts)
        assert reservation.hold_id is not None, reservation.decision
        return reservation.hold_id

    async def capture(self, hold_id: UUID, amount: int, *, key: str | None = None) -> ledger.Settlement:
        return await ledger.capture(
            self.conn, hold_id=hold_id, key=key or fresh("capture"), amount=amount, now=self.now
        )

    async def release(self, hold_id: UUID, *, key: str | None = None) -> ledger.Settlement:
        return await ledger.release(
            self.conn, hold_id=hold_id, key=key or fresh("release"), reason="failed", now=self.now
        )

    async def expire(self) -> ledger.Expired:
        return await ledger.expire(self.conn, user_id=self.user_id, now=self.now)

    async def balance(self) -> ledger.Balance:
        return await ledger.balance(self.conn, user_id=self.user_id, now=self.now)

    async def decide(self, amount: int) -> ledger.Decision:
        return await ledger.decide(self.conn, user_id=self.user_id, amount=amount, now=self.now)

    async def entries(self, *, since: int = 0) -> list[tuple[Any, ...]]:
        """(kind, from, to, amount, bucket) of every entry after seq `since`."""
        rows = await self.conn.fetch(
            """SELECT kind::text, from_leg::text, to_leg::text, amount, bucket_id FROM credit_entries
               WHERE user_id = $1 AND seq > $2 ORDER BY seq""",
            self.user_id,
            since,
        )
        return [tuple(row) for row in rows]

    async def seq(self) -> int:
        seq: int = await self.conn.fetchval("SELECT seq FROM user_billing WHERE user_id = $1", self.user_id) or 0
        return seq
