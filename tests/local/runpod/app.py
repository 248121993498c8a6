"""The gateway as an ASGI app: `/v2/…` for clients and workers, `/weather` for orders, `/healthz`.

`/v2` goes straight to its two doors, past Starlette: benchmarks run through here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.local.runpod.asgi import Gone, Receive, Scope, Send, hang_up
from tests.local.runpod.platform import Platform
from tests.local.runpod.public_api import PublicApi
from tests.local.runpod.refusals import Silence
from tests.local.runpod.weather_door import WeatherDoor
from tests.local.runpod.worker_wire import OPERATIONS, WorkerWire


class Gateway:
    """One ASGI app over one platform.

    With `in_process` (for `httpx.ASGITransport`) a call that gets no answer raises what httpx would raise on a real
    network, at once; otherwise the connection is really held and cut.
    """

    def __init__(self, platform: Platform, *, in_process: bool = False) -> None:
        self._public = PublicApi(platform)
        self._workers = WorkerWire(platform)
        self._rest = _rest(platform)
        self._in_process = in_process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to its door."""
        if scope["type"] != "http" or not scope["path"].startswith("/v2/"):
            await self._rest(scope, receive, send)
            return
        operation = scope["path"].split("/", 4)[3:4]
        try:
            if operation and operation[0] in OPERATIONS:
                await self._workers(scope, receive, send)
            else:
                await self._public(scope, receive, send)
        except Gone:
            return
        except Silence as silence:
            if not self._in_process:
                await hang_up(receive, send, silence.seconds)
            elif silence.seconds:
                raise httpx.ReadTimeout("no answer") from silence
            else:
                raise httpx.RemoteProtocolError("the server hung up without an answer") from silence


def _rest(platform: Platform) -> Starlette:
    async def healthz(request: Request) -> Response:
        waiting = [
            worker.id
            for endpoint in platform.endpoints.values()
            for worker in endpoint.workers.values()
            if worker.seen_at is None
        ]
        return JSONResponse({"waiting_for": waiting}, 503 if waiting else 200)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with platform.running():
            yield

    routes = [
        Route("/weather", WeatherDoor(platform).answer, methods=["GET", "POST", "PUT", "DELETE"]),
        Route("/healthz", healthz, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)
