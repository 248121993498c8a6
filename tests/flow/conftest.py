"""Every story gets a world of its own, with a database of its own: time is moved for all that is in it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.flow.world import World, open_world
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
