"""The local RunPod at a port of its own, without limits: nothing but our own buckets holds the workers back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.flow.world import ENDPOINTS
from tests.local.runpod.__main__ import HOST, server_for
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import NO_LIMITS, Rules


@asynccontextmanager
async def open_gateway() -> AsyncIterator[tuple[Platform, str]]:
    """The platform, and the address to call it at."""
    platform = Platform(ENDPOINTS, rules=Rules(limits=NO_LIMITS))
    server, listener = server_for(platform), socket.create_server((HOST, 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield platform, f"http://{HOST}:{listener.getsockname()[1]}/v2"
    finally:
        platform.close()
        server.should_exit = True
        await serving
