"""A /run that RunPod has, and whose answer is on its way for as long as the story wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from shared.generations import Generation
from tests.flow.world import World
from tests.local.runpod import door
from worker import submit
from worker.runpod import RunPod, open_http


class _Held(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.arrived, self.released = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        self.arrived.set()
        await self.released.wait()
        return response


@asynccontextmanager
async def sending(world: World, generation: Generation) -> AsyncIterator[None]:
    """Within, the call is under way; at the end its answer comes, and was recorded too late to move anything."""
    held = _Held(door.transport(world.runpod))
    async with open_http(world.context.settings, transport=held) as http:
        sent = asyncio.create_task(submit.send(replace(world.context, runpod=RunPod(http)), generation))
        await held.arrived.wait()
        yield
        held.released.set()
        assert await sent is None
