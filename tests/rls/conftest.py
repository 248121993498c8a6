"""Two people with rows of every kind, what a browser role sees of them, and servers that know no roles yet."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest

from shared import generations, ledger
from shared.database import Connection, prepare_connection
from shared.generations import Type
from tests.local import postgres
from tests.local.databases import Databases


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    """A connection of the role that owns everything."""
    connection = await asyncpg.connect(database_url)
    await prepare_connection(connection)
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def session(
    connection: Connection, role: str = "authenticated", claims: str | None = None
) -> AsyncIterator[None]:
    """A transaction as a browser role has it, with these claims as they are; undone at the end."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        if claims is not None:
            await connection.execute("SELECT set_config('request.jwt.claims', $1, true)", claims)
        await connection.execute("SELECT set_config('role', $1, true)", role)
        yield
    finally:
        await transaction.rollback()


def claims_of(user_id: str) -> str:
    return orjson.dumps({"sub": user_id, "role": "authenticated"}).decode()


async def somebody(connection: Connection) -> str:
    """Somebody new with rows in every table that people have rows in."""
    user_id, generation_id = f"user_{token_hex(6)}", uuid4()
    await ledger.grant(
        connection, user_id=user_id, key="start", amount=11, kind="promo", source_ref="start", actor="test"
    )
    # Little remains after this, so that there is a warning, too.
    held = await ledger.reserve(
        connection,
        user_id=user_id,
        key="hold",
        generation_id=generation_id,
        amount=5,
        expires_at=datetime.now(UTC) + timedelta(days=1),
        price={"price_version": 2, "type": "image", "unit_credits": 5, "batch_size": 1, "multiplier_permille": 1000},
    )
    assert held.hold_id is not None
    await insert_generation(connection, user_id=user_id, generation_id=generation_id, hold_id=held.hold_id)
    await connection.execute(
        "INSERT INTO generation_streams (generation_id, attempt, user_id, due_at) VALUES ($1, 1, $2, now())",
        generation_id,
        user_id,
    )
    await connection.execute(
        "INSERT INTO generation_chunks (generation_id, version, seq, attempt, user_id, text)"
        " VALUES ($1, 1, 1, 1, $2, 'It blinks.')",
        generation_id,
        user_id,
    )
    return user_id


async def insert_generation(connection: Connection, **who: Any) -> None:
    await generations.insert(
        connection,
        **who,
        generation_type=Type.IMAGE,
        prompt="a lighthouse",
        batch_size=1,
        parameters={},
        source=None,
        client_reference=None,
        request_id=None,
        price_version=2,
        quoted=5,
    )


@pytest.fixture
async def people(owner: Connection) -> tuple[str, str]:
    """Two people who must never see each other's rows."""
    return await somebody(owner), await somebody(owner)


@dataclass(frozen=True)
class Server:
    """A Postgres of this test's own: roles are of a whole server."""

    url: str

    @property
    def databases(self) -> Databases:
        return Databases(self.url, "unused")

    @contextlib.asynccontextmanager
    async def connected(self, database: str, user: str | None = None) -> AsyncIterator[Connection]:
        """As the superuser, or as a login role whose password is its name."""
        options: dict[str, Any] = {} if user is None else {"user": user, "password": user}
        connection = await asyncpg.connect(self.databases.url(database), **options)
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def untouched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> postgres.Cluster:
    """As initdb leaves it, which takes longer than what most tests do with it."""
    major: int | None = request.config.getoption("--postgres")
    programs = postgres.embedded() if major is None else postgres.installed(major)
    assert programs is not None
    cluster = postgres.Cluster(tmp_path_factory.mktemp("untouched") / "postgres", programs, token_hex(16))
    cluster.create()
    return cluster


@pytest.fixture
def server(untouched: postgres.Cluster, tmp_path: Path) -> Iterator[Server]:
    """One that nothing of ours has touched."""
    cluster = replace(untouched, folder=tmp_path / "postgres")
    subprocess.run(["cp", "-a", untouched.folder, cluster.folder], check=True)
    running = postgres.run(cluster, postgres.THROWAWAY)
    yield Server(running.url)
    running.stop()
