"""Postgres to measure on: the embedded one with its own defaults for durability, so every commit is flushed to disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.bench.people import open_accounts
from tests.local import postgres
from tests.local.databases import Databases


@dataclass(frozen=True, slots=True)
class Ground:
    """A server, what makes databases on it, and the folder in which everything of this run lies."""

    folder: Path
    server: postgres.Running
    databases: Databases

    async def database(self, *, accounts: int) -> str:
        """Make a migrated database with so many people in it; return its URL."""
        url = self.databases.url(await self.databases.create())
        await open_accounts(url, accounts)
        return url


@contextmanager
def open_ground(folder: Path, **settings: str) -> Iterator[Ground]:
    """Start Postgres in that folder, with these settings beside its own, and stop it in the end."""
    cluster = postgres.Cluster(folder / "postgres", postgres.embedded(), uuid4().hex)
    server = postgres.run(cluster, {**postgres.DURABLE, **settings})
    try:
        yield Ground(folder, server, Databases(server.url, "bench_template"))
    finally:
        server.stop()


def make_database(ground: Ground, *, accounts: int) -> str:
    """As `Ground.database`, for code that is not a coroutine."""
    return asyncio.run(ground.database(accounts=accounts))
