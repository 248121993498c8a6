"""Texts that are made while they are read: how a story begins one, and what can be seen of it."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared import chunks
from tests.flow.world import Person, World
from tests.local.runpod.jobs import Job
from worker import stream
from worker.streams import Stream

PRICE = 1


NOT_AT_ALL = timedelta(0)


NOW = asyncio.Event()
NOW.set()
"""One drain, and no more."""


async def writing(world: World, person: Person, *said: Any, **body: Any) -> tuple[UUID, Job]:
    """A worker writes the text, and has said so much."""
    generation_id = await world.submitted(person, type="text", **body)
    job = world.runpod.take("text")
    assert job is not None
    for chunk in said:
        world.runpod.stream(job.id, chunk)
    return generation_id, job


async def drain(world: World) -> None:
    """Every stream is due, and drained once."""
    await world.execute("UPDATE generation_streams SET due_at = now() WHERE due_at > now() AND lease_token IS NULL")
    await stream.stream_once(world.context)


async def shown(world: World, generation_id: UUID) -> str:
    """What the chunks join to."""
    async with world.context.pool.acquire() as connection:
        return await chunks.text(connection, generation_id)


async def text_of(world: World, person: Person, generation_id: UUID) -> str:
    """The settled text, which must be the joined chunks."""
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert reply["status"] == "completed", reply
    text = str(reply["outputs"][0]["text"])
    assert await shown(world, generation_id) == text
    return text


async def claimed(world: World) -> Stream:
    """The one stream, claimed by a worker that does not get to its end."""
    await world.execute("UPDATE generation_streams SET due_at = now() WHERE due_at > now() AND lease_token IS NULL")
    (one,) = await stream.claim(world.context, 10)
    return one


async def lease_runs_out(world: World) -> None:
    await world.execute(
        "UPDATE generation_streams SET due_at = due_at - $1::interval WHERE due_at IS NOT NULL",
        world.context.settings.lease,
    )


async def trouble(world: World) -> str | None:
    found: str | None = await world.value("SELECT trouble FROM generation_streams")
    return found
