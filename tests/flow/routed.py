"""A world whose worker reads several endpoints from a file, and what can be seen of them."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from tests.flow.world import ENDPOINTS, PUBLIC_URL, Person, World, open_world
from worker.routing import Router

ENTRY = """
[[endpoint]]
name = "{name}"
type = "{type}"
endpoint_id = "{endpoint_id}"
worker = "passthrough"
priority = {priority}
expected_cost_usd = 0.25
"""


@asynccontextmanager
async def open_with(
    database_url: str,
    redis_url: str,
    folder: Path,
    entries: Iterable[str],
    *,
    added: Iterable[str] = (),
    **changes: Any,
) -> AsyncIterator[World]:
    """A world whose worker reads these endpoints from a file; RunPod has those that are `added` besides its own."""
    file = folder / "endpoints.toml"
    file.write_text("\n".join(entries))
    changes |= {f"endpoint_{name}": None for name in ENDPOINTS}
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=folder, endpoints_file=file, **changes
    ) as opened:
        for endpoint_id in added:
            opened.runpod.add_endpoint(endpoint_id)
        yield opened


@asynccontextmanager
async def open_routed(
    database_url: str,
    redis_url: str,
    folder: Path,
    pictures_from: Mapping[str, str],
    *,
    priorities: tuple[int, int] = (0, 1),
    endpoint_id: str | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """A world whose worker reads its endpoints from a file: those for images have these terms besides.

    With `endpoint_id`, they are profiles of one endpoint.
    """
    entries = [
        ENTRY.format(name=name, type="image", priority=priority, endpoint_id=endpoint_id or name) + terms
        for (name, terms), priority in zip(pictures_from.items(), priorities, strict=True)
    ]
    entries += [
        ENTRY.format(name=name, type=name, priority=0, endpoint_id=name) for name in ENDPOINTS if name != "image"
    ]
    async with open_with(database_url, redis_url, folder, entries, added=pictures_from, **changes) as opened:
        yield opened


async def breaker_of(world: World, endpoint_id: str) -> str:
    return str(await world.value("SELECT breaker FROM endpoint_states WHERE endpoint_id = $1", endpoint_id))


async def changes_of(world: World, endpoint_id: str) -> list[str]:
    """What the breaker did, oldest first."""
    async with world.context.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT to_breaker FROM endpoint_changes WHERE endpoint_id = $1 ORDER BY change_id", endpoint_id
        )
    return [row["to_breaker"] for row in rows]


async def where(world: World, generation_id: UUID) -> str:
    return str(await world.value("SELECT endpoint_id FROM generations WHERE id = $1", generation_id))


def another_worker(world: World) -> World:
    """The same world, seen by a second worker process: it remembers nothing of the first."""
    context = world.context
    router = Router(context.endpoints, context.allowances, context.shares)
    return replace(world, context=replace(context, router=router))


def expected_cost(endpoint: str) -> float:
    return REGISTRY.get_sample_value("twin_runpod_expected_cost_usd_total", {"endpoint": endpoint}) or 0


async def longer_closed(world: World) -> None:
    """RunPod asks for a minute more, so that a slow machine does not outlast it."""
    await world.execute("UPDATE endpoint_allowances SET closed_until = closed_until + interval '1 minute'")


async def told_to_ops(world: World, admin: Person) -> list[dict[str, Any]]:
    token, _ = world.issuer.token(admin.user_id, authorized_party=PUBLIC_URL, role="admin")
    reply = await admin.http.get("/ops/queue", headers={"authorization": f"Bearer {token}"})
    assert reply.status_code == 200, reply.text
    return [each for each in reply.json()["endpoints"] if each["type"] == "image"]


async def samples(world: World) -> dict[tuple[str, str, str], float]:
    person = await world.person()
    text = (await person.http.get("/metrics")).text
    return {
        (sample.name, sample.labels["endpoint"], sample.labels["state"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if {"endpoint", "state"} == set(sample.labels)
    }


async def at_once(world: World, endpoint_id: str) -> int:
    """How many jobs an endpoint has of us."""
    jobs = "SELECT count(*) FROM generations WHERE endpoint_id = $1 AND state IN ('submitting', 'submitted', 'running')"
    return int(await world.value(jobs, endpoint_id))
