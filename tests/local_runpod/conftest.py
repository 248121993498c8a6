from collections.abc import AsyncIterator

import httpx
import pytest

from tests.local.runpod.clock import ManualClock
from tests.local.runpod.door import client
from tests.local.runpod.platform import Platform


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def runpod(clock: ManualClock) -> Platform:
    return Platform(["text", "image"], clock=clock)


@pytest.fixture
async def http(runpod: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with client(runpod) as opened:
        yield opened
