"""Derives the whole ledger again from its entries and names every row that says otherwise.

Accounts are walked by key in batches of about BATCH_ENTRIES entries, each batch, or each part of an account that is
looked at alone, in one snapshot, so a running system raises no false alarm. The chain of an account with more entries
than that is read in chunks; memory stays bounded.
A bad row is judged by the row before it *as stored*: one edit is named where it was made, not along the whole tail.

What nobody can find: rows rewritten so that everything agrees again (entries, hashes, the head, buckets, holds,
generations and operations), an account of which nothing is left at all, the last acts of a scope, if `credit_acts` is
set back with them, the latest price together with its operation when no hold is of it, a denial or a warning that was
deleted, under which key credits were asked for and (but for a reserve) with which request, how a decision was worded or
what could be spent after it, when a free hold was, when a hold was to end, if its answer was changed too, which entries
made a hold that has ended, what `warned` was in between and a warning's code, whether a hold of which nothing was
charged was captured or released, and why. The functions of the database that are asked here are taken as they are, but
for those that seal. README.md says what to do about it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import orjson

from shared import sql
from shared.database import Connection
from shared.findings import Finding

_SQL = sql.load(__file__)

BATCH_ENTRIES = 20_000
BATCH_ACCOUNTS = 1_000
OVERDUE = timedelta(minutes=10)
"""How long after its end a hold may stay open: the sweep comes every few seconds, but may be kept waiting."""
_STATEMENT_SECONDS = 900
_SETTINGS = (
    f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off;"
    " SET LOCAL enable_mergejoin = off;"
    " SET LOCAL plan_cache_mode = force_custom_plan"
)
_GENESIS = (0, bytes(32), 0, 0, 0, 0)
_OF_ACCOUNTS = (
    "check_buckets",
    "check_daily",
    "check_parts",
    "check_operations",
    "check_repeats",
    "check_acts",
    "check_generations",
    "check_rounds",
    "check_accounts",
    "check_warnings",
)
_OF_GENERATIONS = ("check_orphans",)
_UNREADABLE = (asyncpg.DataError, asyncpg.FeatureNotSupportedError, asyncpg.ProgramLimitExceededError, ValueError)
"""What forged values may raise: numbers and moments beyond all bounds, JSON of another shape."""

_Stand = tuple[int, bytes, int, int, int, int]
"""Where a chain stands: seq, hash, posted, held, overdraft_used, overdraft_held."""


@dataclass(slots=True)
class Tally:
    """How far a verification came. Credits are summed over the entries, `outstanding` over the accounts."""

    accounts: int = 0
    entries: int = 0
    issued: int = 0
    revenue: int = 0
    expired: int = 0
    reversed: int = 0
    outstanding: int = 0

    def add(self, other: "Tally") -> None:
        """Count what the other counted, too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def finding(self) -> Iterator[Finding]:
        """I10: issued = spent + expired + reversed + outstanding, over everyone."""
        if self.issued != self.revenue + self.expired + self.reversed + self.outstanding:
            credit = ("issued", "revenue", "expired", "reversed", "outstanding")
            sums = {name: getattr(self, name) for name in credit}
            yield Finding(kind="sum-differs", table="credit_entries", key="*", user_id=None, detail=sums)


async def verify(
    connection: Connection,
    *,
    user_id: str | None = None,
    since: datetime | None = None,
    now: datetime | None = None,
    batch_entries: int = BATCH_ENTRIES,
    tally: Tally | None = None,
    alone: bool = False,
) -> AsyncIterator[Finding]:
    """Yield each row that disagrees, as it is found; `tally` counts along.

    Of everybody; or of one account; or of the accounts that have an entry since then, each from its beginning. Prices,
    plans, rows without an account and the sum over everyone are looked at when everybody is. `now` is for tests;
    `alone`, too, and for benches: the ledger has no generations beside it, so no hold needs one.

    Opens its own snapshots, unless the connection is in a transaction: then it reads what that sees.
    """
    tally = Tally() if tally is None else tally
    everybody = user_id is None and since is None
    checks = _OF_ACCOUNTS if alone else (*_OF_ACCOUNTS, *_OF_GENERATIONS)
    after = ""
    async for batch in _batches(connection, user_id, since, batch_entries):
        async for finding in _examined(connection, batch, checks, now, batch_entries, tally):
            yield finding
        if everybody:
            async for finding in _of_everybody(connection, "find_strays", after, batch[-1], None):
                yield finding
        after = batch[-1]
    if everybody:
        async for finding in _beside_accounts(connection, after, tally):
            yield finding
    elif user_id is not None:
        async for finding in _of_everybody(connection, "find_strays", "", None, user_id):
            yield finding


async def _beside_accounts(connection: Connection, after: str, tally: Tally) -> AsyncIterator[Finding]:
    """What is nobody's: rows of accounts that are gone, the last account being `after`, prices, plans and the sum."""
    for check, *arguments in (
        ("find_strays", after, None, None),
        ("check_acts", ["plans", "prices"]),
        ("check_prices",),
        ("check_plans",),
        ("check_guards",),
    ):
        async for finding in _of_everybody(connection, check, *arguments):
            yield finding
    for finding in tally.finding():
        yield finding


def _of_everybody(connection: Connection, check: str, *arguments: Any) -> AsyncIterator[Finding]:
    return _looked_through(connection, _found(connection, check, *arguments), "*", check)


@asynccontextmanager
async def _snapshot(connection: Connection) -> AsyncIterator[None]:
    if connection.is_in_transaction():
        async with connection.transaction():
            yield
        return
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(_SETTINGS)
        yield


async def _batches(
    connection: Connection, user_id: str | None, since: datetime | None, batch_entries: int
) -> AsyncIterator[list[str]]:
    """Accounts by key, as many as have about so many entries together; one that has more is alone."""
    after, batch, entries = "", list[str](), 0
    while rows := await connection.fetch(_SQL["accounts"], after, user_id, since, BATCH_ACCOUNTS):
        after = rows[-1]["user_id"]
        for row in rows:
            if not row["touched"]:
                continue
            if batch and (entries + row["entries"] > batch_entries or len(batch) == BATCH_ACCOUNTS):
                yield batch
                batch, entries = [], 0
            batch.append(row["user_id"])
            entries += row["entries"]
    if batch:
        yield batch


async def _examined(
    connection: Connection,
    user_ids: list[str],
    checks: tuple[str, ...],
    now: datetime | None,
    chunk: int,
    tally: Tally,
) -> AsyncIterator[Finding]:
    """These accounts in one snapshot; of fewer, down to one, while there is something in them that cannot be read.

    What several have is kept until all of it was read: they have few entries. One may have any number, so what is found
    of it is told at once, each part in a snapshot of its own: what cannot be read in one hides nothing of another.
    """
    counted = Tally()
    if len(user_ids) == 1:
        [user_id] = user_ids
        for part in _parts(connection, user_ids, checks, now, chunk, counted):
            async for finding in _looked_through(connection, part, "user_billing", user_id, user_id):
                yield finding
    else:
        try:
            async with _snapshot(connection):
                parts = _parts(connection, user_ids, checks, now, chunk, counted)
                found = [finding for part in parts async for finding in part]
        except _UNREADABLE:
            half = len(user_ids) // 2
            for some in (user_ids[:half], user_ids[half:]):
                async for finding in _examined(connection, some, checks, now, chunk, tally):
                    yield finding
            return
        for finding in found:
            yield finding
    tally.add(counted)


async def _looked_through(
    connection: Connection, part: AsyncIterator[Finding], table: str, key: str, user_id: str | None = None
) -> AsyncIterator[Finding]:
    """A part in a snapshot of its own; what cannot be read of it is a finding of that row."""
    try:
        async with _snapshot(connection):
            async for finding in part:
                yield finding
    except _UNREADABLE as error:
        yield Finding(kind="unreadable", table=table, key=key, user_id=user_id, detail={"error": str(error)})


def _parts(
    connection: Connection,
    user_ids: list[str],
    checks: tuple[str, ...],
    now: datetime | None,
    chunk: int,
    tally: Tally,
) -> Iterator[AsyncIterator[Finding]]:
    """What there is to look at of these accounts."""
    yield _chains(connection, user_ids, chunk, tally)
    yield _found(connection, "check_holds", user_ids, now, OVERDUE)
    for check in checks:
        yield _found(connection, check, user_ids)


async def _chains(connection: Connection, user_ids: list[str], chunk: int, tally: Tally) -> AsyncIterator[Finding]:
    standing: dict[str, _Stand] = dict.fromkeys(user_ids, _GENESIS)
    while standing:
        starts = list(zip(*standing.values(), strict=True))
        rows = await connection.fetch(_SQL["chain"], list(standing), *starts, chunk, timeout=_STATEMENT_SECONDS)
        going_on: dict[str, _Stand] = {}
        for row in rows:
            start = standing[row["user_id"]]
            stand = start if row["seq"] is None else (row["seq"], row["hash"], *row["balances"])
            for finding in _entries(row):
                yield finding
            _count(tally, row)
            if row["entries"] == chunk:
                going_on[row["user_id"]] = stand
                continue
            tally.accounts += 1
            tally.outstanding += row["account"][0] - row["account"][2]
            for finding in _account(row, stand):
                yield finding
        standing = going_on


def _count(tally: Tally, row: asyncpg.Record) -> None:
    tally.entries += row["entries"]
    tally.issued += row["issued"]
    tally.revenue += row["revenue"]
    tally.expired += row["expired"]
    tally.reversed += row["reversed"]


def _entries(row: asyncpg.Record) -> Iterator[Finding]:
    """What is wrong with single entries, each named once for each thing that is wrong with it."""
    user_id, changed = row["user_id"], set[int]()
    for bad in orjson.loads(row["bad"] or "[]"):
        seq, before = bad["seq"], bad["before"]
        if gap := seq != before + 1:
            yield _missing(user_id, before + 1, seq - 1)
        # Behind a gap there is nothing to judge an entry by.
        if bad["changed"] and not gap:
            changed.add(seq)
            yield _entry("entry-changed", user_id, str(seq))
        # An entry whose own hash fits is not to blame for the balances of one before it that were changed.
        if bad["unbalanced"] and not gap and (seq in changed or before not in changed):
            yield _entry("entry-unbalanced", user_id, str(seq))
        if bad["unlawful"]:
            yield _entry("entry-unlawful", user_id, str(seq))


def _account(row: asyncpg.Record, stand: _Stand) -> Iterator[Finding]:
    """Whether the account stands where its chain ends."""
    user_id, seq, (last, last_hash, *balances) = row["user_id"], row["account_seq"], stand
    if seq > last:
        yield _missing(user_id, last + 1, seq)
    elif (seq, row["head_hash"], row["account"]) != (last, last_hash, balances):
        detail = {"row": [seq, *row["account"]], "entries": [last, *balances], "hash": last_hash == row["head_hash"]}
        yield Finding(kind="account-differs", table="user_billing", key=user_id, user_id=user_id, detail=detail)


def _missing(user_id: str, first: int, last: int) -> Finding:
    return _entry("entry-missing", user_id, str(first) if first == last else f"{first}-{last}")


def _entry(kind: str, user_id: str, seq: str) -> Finding:
    return Finding(kind=kind, table="credit_entries", key=f"{user_id}/{seq}", user_id=user_id, detail={})


async def _found(connection: Connection, check: str, *arguments: Any) -> AsyncIterator[Finding]:
    async for row in connection.cursor(_SQL[check], *arguments, timeout=_STATEMENT_SECONDS):
        yield Finding(
            kind=row["kind"],
            table=row["table"],
            key=row["key"] or "?",
            user_id=row["user_id"],
            detail=orjson.loads(row["detail"]),
        )
