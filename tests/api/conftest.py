"""The real app over ASGI, on a real Postgres and Valkey, with sessions signed by the dev issuer."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from api.state import State
from shared import ledger
from shared.database import Pool
from tests.local.issuer import ISSUER_URL, KEY_ID, Issuer

PUBLIC_URL = "http://127.0.0.1:8000"
JWKS_URL = f"{ISSUER_URL}/.well-known/jwks.json"
SECRET = "test:" + base64.b64encode(bytes(range(32))).decode()


@dataclass
class IssuerServer(httpx.AsyncBaseTransport):
    """The dev issuer's JWKS, over a transport: counts fetches, and can be away."""

    issuer: Issuer
    fetches: int = 0
    away: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.fetches += 1
        if self.away:
            raise httpx.ConnectError("away", request=request)
        return httpx.Response(200, json=self.issuer.jwks(), request=request)


@dataclass
class World:
    """The app, its state, and who may call it."""

    app: FastAPI
    issuer: Issuer
    issuer_server: IssuerServer
    client: httpx.AsyncClient

    @property
    def state(self) -> State:
        state: State = self.app.state.twin
        return state

    @property
    def pool(self) -> Pool:
        return self.state.pool

    def headers(self, user_id: str, *, role: str | None = None, **claims: Any) -> dict[str, str]:
        token, _ = self.issuer.token(user_id, authorized_party=PUBLIC_URL, role=role, **claims)
        return {"Authorization": f"Bearer {token}"}

    def issuer_claims(self) -> dict[str, Any]:
        """The claims of a session that counts."""
        token, _ = self.issuer.token("user_1", authorized_party=PUBLIC_URL)
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        return claims

    def sign(self, claims: dict[str, Any]) -> dict[str, str]:
        """Any claims whatever, under the issuer's key."""
        headers = {"kid": KEY_ID}
        token = jwt.api_jws.encode(json.dumps(claims).encode(), self.issuer.key, algorithm="RS256", headers=headers)
        return {"Authorization": f"Bearer {token}"}

    async def person(self, granted: int = 0, **terms: Any) -> "Caller":
        """Somebody new, with these credits and terms."""
        user_id = f"user_{token_hex(6)}"
        async with self.pool.acquire() as connection, connection.transaction():
            if terms:
                await ledger.open_account(connection, user_id=user_id, **terms)
            if granted:
                await ledger.grant(
                    connection, user_id=user_id, key="start", amount=granted, kind="promo", source_ref="s", actor="test"
                )
        return Caller(self, user_id)


@dataclass
class Caller:
    """A signed-in person with a client of their own."""

    world: World
    user_id: str
    role: str | None = None

    async def __call__(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        headers = {**self.world.headers(self.user_id, role=self.role), **arguments.pop("headers", {})}
        return await self.world.client.request(method, path, headers=headers, **arguments)

    async def submit(self, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        order = {"type": "text", "prompt": "a lighthouse", **body}
        return await self("POST", "/v1/generations", json=order, headers=headers or {})

    async def available(self) -> int:
        async with self.world.pool.acquire() as connection:
            return (await ledger.balance(connection, user_id=self.user_id)).available

    async def traces(self) -> dict[str, int]:
        """How many rows of each kind this person has: what a refusal must not change."""
        async with self.world.pool.acquire() as connection:
            return {
                table: await connection.fetchval(f"SELECT count(*) FROM {table} WHERE user_id = $1", self.user_id)  # noqa: S608
                for table in ("user_billing", "generations", "credit_holds", "credit_entries", "idempotency_keys")
            }


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture
def make_settings(database_url: str, redis_url: str, tmp_path: Path) -> Callable[..., ApiSettings]:
    def make(**overrides: Any) -> ApiSettings:
        given: dict[str, Any] = {
            "mode": "local",
            "database_url": database_url,
            "redis_url": redis_url,
            "secret": SECRET,
            "public_url": PUBLIC_URL,
            "storage_url": (tmp_path / "media").as_uri(),
            "clerk_issuer": ISSUER_URL,
            "clerk_jwks_url": JWKS_URL,
            "upgrade_url": "https://example.com/upgrade",
            "queue_name": f"twin:{token_hex(4)}",
            **overrides,
        }
        return ApiSettings.model_validate(given)

    return make


@contextlib.asynccontextmanager
async def open_world(settings: ApiSettings, issuer: Issuer) -> AsyncIterator[World]:
    server = IssuerServer(issuer)
    app = create_app(settings, issuer_transport=server)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
            yield World(app, issuer, server, client)


@pytest.fixture
async def world(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[World]:
    async with open_world(make_settings(), issuer) as opened:
        yield opened


@pytest.fixture
def owner(world: World) -> Caller:
    """An admin of the house."""
    return Caller(world, "user_owner", role="admin")
