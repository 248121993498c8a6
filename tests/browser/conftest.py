"""One Chromium for the session, one served world for a module, a fresh person and window for every story."""

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.studio import House, Models
from tests.flow.world import PUBLIC_URL, open_world
from tests.local.api import sessions
from tests.local.serving import serve

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The system's Chromium with an empty profile; without one these stories cannot be told."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on PATH")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        await launched.close()


@pytest.fixture(scope="module")
def hasty_handlers() -> Iterator[None]:
    """Sample handlers that do not take a visible moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIN_HANDLER_PACE_SECONDS", "0")
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def house(
    browser: Browser,
    hasty_handlers: None,
    database_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[House]:
    """A browser before a served world."""
    folder = tmp_path_factory.mktemp("world")
    async with open_world(database_url=database_url, redis_url=redis_url, folder=folder) as world:
        world.app.include_router(sessions(world.issuer, authorized_party=PUBLIC_URL))
        async with serve(world.app) as origin:
            yield House(world, Models(world), origin, browser)
            world.app.state.twin.hub.close()
