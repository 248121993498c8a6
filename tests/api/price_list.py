"""What an owner does to the price list, what a person is quoted, and what everybody sees of it."""

from typing import Any
from uuid import uuid4

import httpx

from tests.api.conftest import Caller, World

STEPS = {"parameter": "steps", "included": 20, "step": 10, "credits": 1}
PIXELS = {"parameter": "pixels", "included": 262_144, "step": 262_144, "credits": 2}
SECONDS = {"parameter": "seconds", "included": 2, "step": 1, "credits": 3}
VIDEO = {"type": "video", "unit_credits": 10, "surcharges": [STEPS, SECONDS]}


async def add(owner: Caller, *, key: str | None = None, **price: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await owner("POST", "/v1/admin/prices", json=price, headers=headers)


async def priced(owner: Caller, **price: Any) -> dict[str, Any]:
    reply = await add(owner, **price)
    assert reply.status_code == 201, reply.text
    added: dict[str, Any] = reply.json()
    return added


async def quoted(person: Caller, **wish: Any) -> dict[str, Any]:
    reply = await person("POST", "/v1/quotes", json=wish)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def menu(world: World) -> dict[str, Any]:
    found: dict[str, Any] = (await world.client.get("/v1/pricing")).json()
    return found
