"""An administrator, and the acts that several stories need."""

import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from shared.generations import State
from tests.api.conftest import Caller, World
from tests.api.ladder import climb

LATER = "2999-01-01T00:00:00Z"
NOWHERE = "00000000-0000-7000-8000-000000000000"
ADJUSTMENT = {"amount": 5, "reason": "Support case 4711"}
HOSTILE_REASONS = ["", "  ", "x" * 501, "a\0b", "line\nbreak", "\x1b[31m", "\x9b31m", "\ud800", 5, True, None, ["why"]]


@pytest.fixture
def admin(world: World) -> Caller:
    return Caller(world, f"user_admin_{uuid4().hex[:8]}", role="admin")


def raw(body: object) -> dict[str, Any]:
    """A body as JSON in ASCII: half an emoji can be sent, too."""
    return {"content": json.dumps(body), "headers": {"Content-Type": "application/json", "Idempotency-Key": "k"}}


async def adjust(admin: Caller, person: Caller, key: str | None = None, **body: Any) -> httpx.Response:
    sent = {"user_id": person.user_id, **ADJUSTMENT, **body}
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await admin("POST", "/v1/admin/adjustments", json=sent, headers=headers)


async def reverse(admin: Caller, **body: Any) -> httpx.Response:
    return await admin("POST", "/v1/admin/reversals", json={"reason": "by mistake", **body})


async def log_of(admin: Caller, **filters: Any) -> list[dict[str, Any]]:
    reply = await admin("GET", "/v1/admin/operations", params=filters)
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["data"]
    return found


async def charged(world: World, person: Caller) -> str:
    """A picture of the person's that was delivered and charged 5 credits."""
    generation_id: str = (await person.submit(type="image")).json()["id"]
    outputs = [
        {"index": 0, "kind": "image", "media_type": "image/png", "key": "k", "width": 8, "height": 8, "bytes": 1}
    ]
    async with world.pool.acquire() as connection:
        await climb(connection, UUID(generation_id), State.COMPLETED, outputs=outputs)
    return generation_id
