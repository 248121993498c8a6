"""Every story gets a world of its own people; the database is the module's."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow.world import World, open_world


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in good weather."""
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path) as opened:
        yield opened
