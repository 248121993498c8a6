"""What an operator puts right: adjustments and reversals, each with who and why.

None takes or gives more than it names. Functions take a connection and never commit; see `shared/ledger.py`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from shared import ledger, sql
from shared.credits import Balance, Correction, Kind
from shared.database import Connection

_SQL = sql.load(__file__)


def _correction(answer: dict[str, Any]) -> Correction:
    return Correction(
        amount=answer["amount"],
        replayed=answer["replayed"],
        balance=Balance(**answer["balance"]),
        spent=answer.get("spent", 0),
    )


async def adjust(
    conn: Connection,
    *,
    user_id: str,
    key: str,
    amount: int,
    reason: str,
    actor: str,
    expires_at: datetime | None = None,
    now: datetime | None = None,
) -> Correction:
    """Put right what a person has: above 0 gives (debt is paid first), below 0 takes in spending order, all or nothing.

    Raises:
        NotEnough: that much cannot be taken.
        InvalidAmount, KeyReused.
    """
    return _correction(await ledger.call(conn, _SQL["adjust"], user_id, key, amount, reason, actor, expires_at, now))


async def reverse_grant(
    conn: Connection,
    *,
    user_id: str,
    kind: Kind,
    source_ref: str,
    amount: int | None,
    reason: str,
    actor: str,
    now: datetime | None = None,
) -> Correction:
    """Take back what is left of a grant, or `amount` of that; what was spent stays spent. Once per grant.

    None ends the grant: what running work gives back to it expires.

    Raises:
        UnknownGrant, InvalidAmount.
        KeyReused: it was reversed before, with another amount or reason.
    """
    return _correction(
        await ledger.call(conn, _SQL["reverse_grant"], user_id, kind, source_ref, amount, reason, actor, now)
    )


async def reverse_charge(
    conn: Connection, *, hold_id: UUID, amount: int | None, reason: str, actor: str, now: datetime | None = None
) -> Correction:
    """Give back what a hold was charged, or `amount` of it, as credits that do not expire. Once per hold.

    Raises:
        UnknownHold, NotCharged, OverCapture, InvalidAmount.
        KeyReused: it was reversed before, with another amount or reason.
    """
    return _correction(await ledger.call(conn, _SQL["reverse_charge"], hold_id, amount, reason, actor, now))
