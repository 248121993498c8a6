"""Millions of entries, for what reads history: one account with a fifth of them, and very many small ones.

They are written in bulk by `history.sql`, and what the ledger's own functions would have left beside them, too: their
hash chains, holds, parts and answers are whole, so whatever verifies a ledger finds nothing to say.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from shared.database import Connection, prepare_connection
from tests.bench.figures import percentile
from tests.bench.ledger.callers import PRICE
from tests.bench.people import CREDITS, account
from tests.local.databases import Databases

SMALL_CYCLES = 50
LARGE_SHARE = 0.2
_CHUNK_CYCLES = 10_000
_STEP = timedelta(milliseconds=500)
_SQL = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")

_OPEN = """
SELECT count(ledger_grant(
    p_user_id => 'user_bench_' || n, p_key => 'bench', p_amount => $3, p_kind => 'paid',
    p_source_ref => 'bench', p_actor => 'bench', p_now => $4
)) FROM generate_series($1::bigint, $2::bigint - 1) AS n
"""
_SIZE = "SELECT pg_database_size(current_database())"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How much there is of it; `large_entries` of the entries are one account's, `seconds` is what writing took."""

    accounts: int
    entries: int
    large_entries: int
    seconds: float
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class History:
    """A database full of entries. The large account is `account(0)`, the small ones follow.

    The first entry of every account was at `began_at`; they follow each other in steps of half a second.
    """

    database_url: str
    began_at: datetime
    written: Written

    def moment(self, *, large: bool) -> datetime:
        """Some moment while the large account, or a small one, was being used."""
        entries = self.written.large_entries if large else 2 * SMALL_CYCLES + 1
        return self.began_at + _STEP * random.randrange(entries)


def build(databases: Databases, *, entries: int) -> History:
    """Write at least so many entries, into a database of their own."""
    return asyncio.run(_build(databases, entries))


async def _build(databases: Databases, entries: int) -> History:
    url = databases.url(await databases.create())
    connections = [await _connect(url) for _ in range(os.cpu_count() or 1)]
    large_cycles = max(int(entries * LARGE_SHARE) // 2, 1)
    small = -(-(entries - 2 * large_cycles - 1) // (2 * SMALL_CYCLES + 1))
    began_at = datetime.now(UTC) - _STEP * 2 * (large_cycles + SMALL_CYCLES) - timedelta(days=1)
    try:
        first = connections[0]
        empty = await first.fetchval(_SIZE)
        await first.execute(_SQL)
        began = time.perf_counter()
        chunks = _chunks(small)
        async with asyncio.TaskGroup() as writers:
            for number, connection in enumerate(connections):
                writers.create_task(_write(connection, chunks, began_at, large_cycles if number == 0 else 0))
        took = time.perf_counter() - began
        await first.execute("VACUUM ANALYZE")
        written = Written(
            accounts=1 + small,
            entries=await first.fetchval("SELECT count(*) FROM credit_entries"),
            large_entries=2 * large_cycles + 1,
            seconds=took,
            disk_bytes=await first.fetchval(_SIZE) - empty,
        )
        return History(url, began_at, written)
    finally:
        for connection in connections:
            await connection.close()


async def _connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    # The rows are right by construction, so the checks of foreign keys are spared (superusers may), and the flushes.
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("SET synchronous_commit = off")
    await connection.execute("SET work_mem = '64MB'")
    return connection


def _chunks(small: int) -> Iterator[tuple[int, int]]:
    size = _CHUNK_CYCLES // SMALL_CYCLES
    for first in range(1, 1 + small, size):
        yield first, min(first + size, 1 + small)


async def _write(
    connection: Connection, chunks: Iterator[tuple[int, int]], began_at: datetime, large_cycles: int
) -> None:
    if large_cycles:
        await connection.fetchval(_OPEN, 0, 1, CREDITS, began_at)
    for done in range(0, large_cycles, _CHUNK_CYCLES):
        await _append(connection, [account(0)], min(_CHUNK_CYCLES, large_cycles - done))
    for first, last in chunks:
        await connection.fetchval(_OPEN, first, last, CREDITS, began_at)
        await _append(connection, [account(number) for number in range(first, last)], SMALL_CYCLES)


async def _append(connection: Connection, user_ids: list[str], cycles: int) -> None:
    await connection.execute("SELECT bench_history($1, $2, $3, $4)", user_ids, cycles, _STEP, PRICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """p50 and p99 in ms of a look at some moment in the past, one caller, both kinds of accounts in turns."""

    looks: int
    large_ms: tuple[float, float]
    small_ms: tuple[float, float]


Look = Callable[[Connection, str, datetime], Awaitable[object]]


def read(history: History, look: Look, *, looks: int) -> Reading:
    """Time `look(connection, user_id, moment)` at the large account and at small ones, so often each."""
    return asyncio.run(_read(history, look, looks))


async def _read(history: History, look: Look, looks: int) -> Reading:
    took: dict[bool, list[float]] = {True: [], False: []}
    connection = await asyncpg.connect(history.database_url)
    try:
        await prepare_connection(connection)
        for _ in range(looks):
            for large, durations in took.items():
                user_id = account(0 if large else random.randrange(1, history.written.accounts))
                moment = history.moment(large=large)
                began = time.perf_counter()
                await look(connection, user_id, moment)
                durations.append(1000 * (time.perf_counter() - began))
    finally:
        await connection.close()
    large_ms, small_ms = ((percentile(each, 0.5), percentile(each, 0.99)) for each in took.values())
    return Reading(looks=looks, large_ms=large_ms, small_ms=small_ms)


@dataclass(frozen=True, slots=True)
class Verification:
    """How long it took to verify the whole history."""

    seconds: float
    entries_per_second: float


Verify = Callable[[Connection], Awaitable[object]]


def verify(history: History, check: Verify) -> Verification:
    """Time `check(connection)`, which raises when the ledger is not whole."""
    return asyncio.run(_verify(history, check))


async def _verify(history: History, check: Verify) -> Verification:
    connection = await asyncpg.connect(history.database_url)
    try:
        await prepare_connection(connection)
        began = time.perf_counter()
        await check(connection)
        took = time.perf_counter() - began
    finally:
        await connection.close()
    return Verification(took, history.written.entries / took)
