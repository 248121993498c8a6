"""A person at the counter: one account on one connection, with a time of its own, and short words."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from shared import corrections, ledger, plans
from shared.credits import Correction
from shared.database import Connection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICE = {"price_version": 2, "type": "image", "unit_credits": 5, "batch_size": 1, "multiplier_permille": 1000}

_numbers = count(1)


def fresh(what: str) -> str:
    """A key or reference nobody used before."""
    return f"{what}-{next(_numbers)}"


def balance(available: int, held: int, posted: int, used: int = 0, limit: int = 0) -> ledger.Balance:
    """What somebody has, in one line."""
    return ledger.Balance(available=available, held=held, posted=posted, overdraft_used=used, overdraft_limit=limit)


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

    async def adjust(self, amount: int, *, key: str | None = None, lasts: float | None = None) -> Correction:
        return await corrections.adjust(
            self.conn,
            user_id=self.user_id,
            key=key or fresh("adjust"),
            amount=amount,
            reason="put right",
            actor="admin",
            expires_at=None if lasts is None else self.now + lasts * HOUR,
            now=self.now,
        )

    async def reverse_grant(
        self, ref: str, amount: int | None = None, kind: ledger.Kind = "paid", reason: str = "refunded"
    ) -> Correction:
        terms: dict[str, Any] = {"amount": amount, "reason": reason, "actor": "admin"}
        return await corrections.reverse_grant(
            self.conn, user_id=self.user_id, kind=kind, source_ref=ref, now=self.now, **terms
        )

    async def reverse_charge(self, hold_id: UUID, amount: int | None = None, reason: str = "bad work") -> Correction:
        return await corrections.reverse_charge(
            self.conn, hold_id=hold_id, amount=amount, reason=reason, actor="admin", now=self.now
        )

    async def set_terms(self, *, key: str | None = None, **terms: Any) -> plans.Change:
        return await plans.set_terms(
            self.conn,
            user_id=self.user_id,
            key=key or fresh("terms"),
            terms=terms,
            reason="asked for",
            actor="admin",
            now=self.now,
        )

    async def plan(self, *, name: str | None = None, **terms: Any) -> str:
        """A plan on these terms, of a name nobody else uses unless it is given."""
        name = name or fresh("plan")
        because: dict[str, Any] = {"reason": None, "actor": "admin", "now": self.now}
        await plans.set_plan(self.conn, plan=name, key=fresh("key"), terms=terms, **because)
        return name

    async def move_to(self, time_zone: str) -> None:
        await plans.set_time_zone(
            self.conn, user_id=self.user_id, time_zone=time_zone, actor=self.user_id, now=self.now
        )

    async def look(self) -> bool:
        return await ledger.refresh(self.conn, user_id=self.user_id, now=self.now)

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

    async def named_entries(self) -> list[tuple[Any, ...]]:
        """Every entry as the model has it: the bucket by its kind and source_ref."""
        rows = await self.conn.fetch(
            """SELECT e.kind::text, e.from_leg::text, e.to_leg::text, e.amount, b.kind || ':' || b.source_ref
               FROM credit_entries e LEFT JOIN credit_buckets b USING (bucket_id)
               WHERE e.user_id = $1 ORDER BY e.seq""",
            self.user_id,
        )
        return [tuple(row) for row in rows]

    async def warnings(self) -> list[tuple[str, int]]:
        """(code, available) of everything this person was told."""
        told = await ledger.crossings(self.conn, user_id=self.user_id, after=0, limit=1000)
        return [(crossing.code, crossing.available) for crossing in told]

    async def daily(self) -> list[tuple[str, int, datetime]]:
        """(date, credits, end) of every daily grant there was."""
        rows = await self.conn.fetch(
            """SELECT source_ref, granted, expires_at FROM credit_buckets
               WHERE user_id = $1 AND kind = 'daily' ORDER BY 1""",
            self.user_id,
        )
        return [tuple(row) for row in rows]

    async def seq(self) -> int:
        seq: int = await self.conn.fetchval("SELECT seq FROM user_billing WHERE user_id = $1", self.user_id) or 0
        return seq
