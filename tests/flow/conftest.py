"""Every story gets a world of its own, with a database of its own: time is moved for all that is in it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.flow.routed import open_routed
from tests.flow.world import World, open_world
from tests.local import bucket
from tests.local.databases import Databases, wait_for


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A fresh migrated database for this story."""
    name = wait_for(databases.create())
    yield databases.url(name)
    wait_for(databases.drop(name))


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in good weather."""
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path) as opened:
        yield opened


@pytest.fixture
async def routed(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world with two endpoints for images: the second is asked when the first cannot be."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}) as opened:
        yield opened


@pytest.fixture
async def charging(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in which what came of a broken text is kept and charged."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, broken_stream="charge"
    ) as opened:
        yield opened


@pytest.fixture(scope="module")
def s3() -> Iterator[bucket.Bucket]:
    """A real S3 server."""
    with bucket.running() as running:
        yield running


@pytest.fixture
async def over_s3(
    s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A world whose outputs are kept in a bucket."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, storage_url=s3.url
    ) as opened:
        yield opened
