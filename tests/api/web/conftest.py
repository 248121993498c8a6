"""The page over HTTP, without a browser."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.auth import SESSION_COOKIE
from tests.flow.world import PUBLIC_URL, World, open_world


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in good weather."""
    async with open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path) as opened:
        yield opened


@pytest.fixture
async def browser_of(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client that carries a fresh person's session as a browser would."""
    person = await world.person()
    token = person.http.headers["authorization"].removeprefix("Bearer ")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(world.app),
        base_url=PUBLIC_URL,
        headers={"cookie": f"{SESSION_COOKIE}={token}", "sec-fetch-site": "same-origin"},
    ) as client:
        yield client
