"""Databases made in a blink: each is copied from one template that was migrated once."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from migrations.runner import migrate
from shared.database import Connection
from tests.mutants import mutant

T = TypeVar("T")

# Between the workers of one test session: the first makes the template, the others wait for it.
_TEMPLATE_LOCK = 7_430_212_612


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from code that is not one, whatever loop this thread may have or get."""
    with ThreadPoolExecutor(max_workers=1) as elsewhere:
        return elsewhere.submit(asyncio.run, work).result()


@dataclass(frozen=True, slots=True)
class Databases:
    """A server (its maintenance database's URL), the name of the template on it, and SQL for that beside our own."""

    server_url: str
    template: str
    beside: str = ""

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return urlsplit(self.server_url)._replace(path=f"/{name}").geturl()

    async def create(self) -> str:
        """Make a fresh migrated database and return its name."""
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(f"SELECT pg_advisory_lock({_TEMPLATE_LOCK})")
            await self._ensure_template(connection)
            name = f"twin_{uuid4().hex}"
            # As files: cheaper than through the log, and the list that a first connection would have to make is there.
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self.template}" STRATEGY file_copy')
            return name
        finally:
            await connection.close()

    async def create_empty(self) -> str:
        """Make a database that no migration has touched and return its name."""
        name = f"twin_{uuid4().hex}"
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 STRATEGY file_copy')
            return name
        finally:
            await connection.close()

    async def drop(self, name: str) -> None:
        """Drop one, whoever is still connected to it."""
        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    async def _ensure_template(self, connection: Connection) -> None:
        exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
        if await connection.fetchval(exists, self.template):
            return
        unfinished = await self.create_empty()
        migrating = await asyncpg.connect(self.url(unfinished))
        try:
            await migrate(migrating)
            await mutant.apply_chosen(migrating)
            if self.beside:
                await migrating.execute(self.beside)
        finally:
            await migrating.close()
        await connection.execute(f'ALTER DATABASE "{unfinished}" RENAME TO "{self.template}"')
