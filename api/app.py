"""The API, read from here: what it opens while it runs, what every request passes, and every door in one list."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import cache

import httpx
from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from api import (
    admin,
    dead_letters,
    deletions,
    entries,
    errors,
    events,
    generations,
    media,
    news,
    ops,
    preferences,
    pricing,
    problems,
    quotes,
    retries,
    sent,
    statements,
    web,
    webhooks,
)
from api import credits as credit_routes
from api.auth import Verifier
from api.description import RESPONSES, DescribedApi
from api.errors import Problems
from api.estimates import Estimates
from api.hub import Hub
from api.jwks import KeySet
from api.requests import BodyLimit, RequestFrame
from api.settings import ApiSettings
from api.state import State
from shared.certificates import authorities
from shared.database import open_pool
from shared.queue import open_queue
from shared.storage import open_storage
from shared.webhooks import PURPOSE as WEBHOOK_PURPOSE

ROUTERS = (
    generations.router,
    retries.router,
    deletions.router,
    events.router,
    quotes.router,
    pricing.router,
    credit_routes.router,
    entries.router,
    statements.router,
    news.router,
    preferences.router,
    media.router,
    webhooks.router,
    admin.router,
    ops.router,
    dead_letters.router,
    sent.router,
    problems.router,
)
CANCEL_AGAIN_SECONDS = 0.2
_BROWSERS_MAY_SEND = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Last-Event-ID",
    "Prefer",
    "X-Request-Id",
]
_BROWSERS_MAY_READ = [
    "Content-Disposition",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "X-Request-Id",
]


@contextlib.asynccontextmanager
async def open_state(
    settings: ApiSettings, *, issuer_transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[State]:
    """Open everything the API holds, and close it afterwards. Redis may be away; Postgres must answer.

    Raises:
        OSError or asyncpg.PostgresError: Postgres cannot be reached or refuses us.
    """
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(await open_pool(settings, application_name="twin-api"))
        queue = open_queue(settings)
        stack.push_async_callback(queue.aclose)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=issuer_transport, verify=authorities(), trust_env=False)
        )
        keys = KeySet(settings.jwks_url, client=client, fallback_pem=settings.clerk_jwt_key)
        hub = Hub()
        for loop in (keys.keep_fresh(), hub.subscribe(queue)):
            stack.push_async_callback(_stop, asyncio.create_task(loop))
        yield State(
            settings=settings,
            pool=pool,
            queue=queue,
            storage=open_storage(settings),
            verifier=Verifier(settings, keys),
            hub=hub,
            estimates=Estimates(),
            cursors=settings.signer("cursor"),
            quotes=settings.signer("quote"),
            webhooks=settings.signer(WEBHOOK_PURPOSE),
        )


async def _stop(task: asyncio.Task[None]) -> None:
    # More than once: redis-py swallows a cancellation that meets it while it connects.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_SECONDS)


def create_app(settings: ApiSettings, *, issuer_transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """Build the API; nothing is opened before its lifespan begins. `issuer_transport` carries calls to the issuer."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_state(settings, issuer_transport=issuer_transport) as state:
            app.state.twin = state
            yield

    app = DescribedApi(
        title="Social Twin",
        version="1",
        description="Reserve credits, generate, settle. Every error is an RFC 9457 problem; amounts are whole credits.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        routes=_routes(),
    )
    replies = Problems(settings.public_url)
    errors.install(app, replies)
    # Each is added around the ones before it; every reply of theirs must be readable for the browsers that may ask.
    app.add_middleware(BodyLimit, problems=replies)
    app.add_middleware(RequestFrame, problems=replies, secure=settings.public_url.startswith("https://"))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_BROWSERS_MAY_SEND,
            expose_headers=_BROWSERS_MAY_READ,
            max_age=600,
        )
    web.install(app)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """Every door's routes. FastAPI takes a fifth of a second to make their models; all apps of a process share them."""
    doors = APIRouter(responses=RESPONSES)
    for router in ROUTERS:
        doors.include_router(router)
    return doors.routes
