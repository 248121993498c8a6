"""The books in a person's terms: an entry of the ledger as a line of their statement.

A line's `amount` is what it changed the balance by, `held_change` what it changed the held credits by. The balance is
what has not been spent less what is owed, so lines add up: the balance before, plus the amounts, is the balance after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
from typing_extensions import TypedDict

from shared import sql
from shared.database import Connection

_SQL = sql.load(__file__)

SCAN_LIMIT = 50_000
"""How many entries one page looks through for those that a filter wants; then it ends, and the next one goes on."""

EntryKind = Literal["grant", "reserve", "capture", "release", "lapse", "expire", "repay", "adjust", "reverse"]

_OWN = ("available", "held", "overdraft", "overdraft_held")
_HELD = ("held", "overdraft_held")
_CREDITS: Mapping[str, str] = {
    "daily": "daily credits",
    "promo": "promotional credits",
    "adjust": "correction",
    "plan": "credits of your plan",
    "paid": "credits you bought",
}
_WORDS: Mapping[EntryKind, str] = {
    "grant": "Received: {whose}",
    "reserve": "Held for a generation{lent}",
    "capture": "Charged{late} for a generation{lent}",
    "release": "Returned from a generation",
    "lapse": "Returned from a generation that took too long",
    "expire": "Expired: {whose}",
    "repay": "Paid back what was lent to you",
    "adjust": "Correction: taken",
    "reverse": "Taken back: {whose}",
}
_CAME_BACK: Mapping[str, str] = {"adjust": "Correction: given", "reverse": "Charge given back"}


class Line(TypedDict):
    """One movement. `credits` were moved; the balance changed by `amount`, the held credits by `held_change`.

    `balance` (unspent credits less debt) and `held` are what there was after it. `lapse`: a hold ran out and came back.
    """

    seq: int
    at: datetime
    kind: EntryKind
    description: str
    credits: int
    amount: int
    held_change: int
    balance: int
    held: int
    generation_id: UUID | None
    source_ref: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account came to, and when: unspent credits less debt, and how many are promised to running work."""

    balance: int = 0
    held: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries of a person, from a moment to before another; empty and None mean all."""

    kinds: tuple[EntryKind, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    generation_id: UUID | None = None


async def span(connection: Connection, *, user_id: str, since: datetime | None, until: datetime | None) -> range:
    """The entries of an account from `since` to before `until`, by their `seq`."""
    row = await connection.fetchrow(_SQL["span"], user_id, since, until)
    return range(row["first"], row["last"] + 1) if row is not None else range(0)


async def standing(connection: Connection, *, user_id: str, seq: int) -> Standing:
    """What an account came to after that entry; nothing before the first."""
    row = await connection.fetchrow(_SQL["standing"], user_id, seq)
    return Standing(**row) if row is not None else Standing()


async def newest(
    connection: Connection, *, user_id: str, wanted: Wanted, before: int | None, limit: int, scan: int = SCAN_LIMIT
) -> tuple[list[Line], int | None]:
    """Up to `limit` lines before entry `before`, newest first, and the entry before which to go on; None at the end.

    A page that found too little among `scan` entries is short, and is not the last one.
    """
    entries = await span(connection, user_id=user_id, since=wanted.since, until=wanted.until)
    top = min(entries.stop, before or entries.stop) - 1
    floor = max(entries.start, top - scan + 1)
    rows = await connection.fetch(
        _SQL["newest"], user_id, floor, top, list(wanted.kinds), wanted.generation_id, limit + 1
    )
    lines = [line(row) for row in rows[:limit]]
    if len(rows) > limit:
        return lines, lines[-1]["seq"]
    return lines, floor if floor > entries.start else None


async def onward(connection: Connection, *, user_id: str, entries: range, limit: int) -> list[Line]:
    """The first `limit` lines of these entries, oldest first."""
    rows = await connection.fetch(_SQL["onward"], user_id, entries.start, entries.stop - 1, limit)
    return [line(row) for row in rows]


def line(row: asyncpg.Record) -> Line:
    """An entry of the ledger in a person's terms."""
    origin, target, amount = row["from_leg"], row["to_leg"], row["amount"]
    return {
        "seq": row["seq"],
        "at": row["at"],
        "kind": row["kind"],
        "description": describe(row["kind"], origin, target, row["bucket_kind"]),
        "credits": amount,
        "amount": amount * ((target in _OWN) - (origin in _OWN)),
        "held_change": amount * ((target in _HELD) - (origin in _HELD)),
        "balance": row["balance"],
        "held": row["held"],
        "generation_id": row["generation_id"],
        # Other buckets' names are ours: keys of corrections, ids of holds.
        "source_ref": row["source_ref"] if row["kind"] == "grant" else None,
        "reason": row["reason"],
    }


def describe(kind: EntryKind, origin: str, target: str, bucket_kind: str | None) -> str:
    """What happened, as a person would say it."""
    words = _CAME_BACK.get(kind, _WORDS[kind]) if target in _OWN else _WORDS[kind]
    return words.format(
        whose=_CREDITS.get(bucket_kind or "", "credits"),
        late="" if origin in _HELD else " late",
        lent=", lent to you" if origin.startswith("overdraft") else "",
    )
