"""What a cycle weighs: bytes of WAL, bytes on disk, and how many of its updates are HOT (write no index)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from shared.database import Connection
from tests.bench.options import BenchFailed

_FLUSH_SECONDS = 20

_DISK = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_UPDATES = """
SELECT relname, n_tup_upd AS updated, n_tup_hot_upd AS hot FROM pg_stat_user_tables
WHERE schemaname = 'public' AND n_tup_upd > 0 ORDER BY relname
"""
_AT_WORK = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a counted number of cycles left behind.

    Attributes:
        cycles: how many were counted.
        wal_bytes: of WAL for one of them, right after a checkpoint, with the full pages that then come first.
        wal_bytes_without_pages: the same with full_page_writes off: what the cycle itself says.
        disk_bytes: for one of them, tables with their indexes, after a VACUUM before and after.
        updates: by table, how many rows were updated, and how many of these updates were HOT.
    """

    cycles: int
    wal_bytes: float
    wal_bytes_without_pages: float
    disk_bytes: float
    updates: Mapping[str, tuple[int, int]]

    @property
    def hot_share(self) -> float:
        """Of all updates; 1 when there were none."""
        updated, hot = (sum(each) for each in zip(*self.updates.values(), strict=True)) if self.updates else (1, 1)
        return hot / updated


def weigh(database_url: str, work: Callable[[], int]) -> Weight:
    """Let `work` do cycles in that database, twice, and say how many they were; nobody else may be at work."""
    return asyncio.run(_weigh(database_url, work))


async def _weigh(database_url: str, work: Callable[[], int]) -> Weight:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("SELECT pg_stat_reset()")
        disk = await connection.fetchval(_DISK)
        wal, cycles = await _wal(connection, work)
        await _full_pages(connection, "off")
        try:
            bare, more = await _wal(connection, work)
        finally:
            await _full_pages(connection, "on")
        await _wait_for_statistics(connection)
        updates = {row["relname"]: (row["updated"], row["hot"]) for row in await connection.fetch(_UPDATES)}
        await connection.execute("VACUUM ANALYZE")
        return Weight(
            cycles=cycles + more,
            wal_bytes=wal / cycles,
            wal_bytes_without_pages=bare / more,
            disk_bytes=(await connection.fetchval(_DISK) - disk) / (cycles + more),
            updates=updates,
        )
    finally:
        await connection.close()


async def _wal(connection: Connection, work: Callable[[], int]) -> tuple[int, int]:
    await connection.execute("CHECKPOINT")
    before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
    cycles = await asyncio.to_thread(work)
    written: int = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)::bigint", before)
    return written, cycles


async def _full_pages(connection: Connection, value: str) -> None:
    await connection.execute(f"ALTER SYSTEM SET full_page_writes = {value}")
    await connection.execute("SELECT pg_reload_conf()")


async def _wait_for_statistics(connection: Connection) -> None:
    """A server process hands in what it counted when it ends."""
    deadline = time.monotonic() + _FLUSH_SECONDS
    while await connection.fetchval(_AT_WORK):
        if time.monotonic() > deadline:
            raise BenchFailed(f"somebody was still connected {_FLUSH_SECONDS} s after the cycles had ended")
        await asyncio.sleep(0.05)
