"""The picture that a modification starts from: sent along, fetched by who can fetch it, or refused before it costs."""

import base64
import os
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from tests.flow.world import ENDPOINTS, Person, World, open_world, picture
from worker import finish, health, submit
from worker.kinds.order import MAXIMUM_INLINE_BYTES

ENTRY = '[[endpoint]]\nname = "{0}"\ntype = "{0}"\nendpoint_id = "{0}"\nworker = "{1}"\n'


def large() -> bytes:
    """A picture that cannot be sent along."""
    buffer = BytesIO()
    side = 1600
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(buffer, "PNG", compress_level=0)
    content = buffer.getvalue()
    assert len(content) > MAXIMUM_INLINE_BYTES
    return content


async def with_picture(world: World, person: Person, content: bytes | None = None) -> UUID:
    """A generation whose output this is, a small one by default."""
    made = picture() if content is None else base64.b64encode(content).decode()
    generation_id = await world.finishing(person, {"images": [made]})
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5
    return generation_id


async def modify(person: Person, source: UUID) -> httpx.Response:
    order = {"type": "modify", "prompt": "bluer", "source": {"generation_id": str(source)}}
    return await person.http.post("/v1/generations", json=order)


async def test_nobody_elses_picture_is_sent_whatever_a_row_says(world: World) -> None:
    owner, person = await world.person(), await world.person()
    source, own = await with_picture(world, owner), await with_picture(world, person)
    generation_id = UUID((await modify(person, own)).json()["id"])
    wrong = {"generation_id": str(source), "index": 0}
    await world.execute("UPDATE generations SET source = $2 WHERE id = $1", generation_id, wrong)
    await submit.submit_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "source-lost"
    assert not world.runpod.calls_to("run", "modify")
    assert await world.credits_of(person) == (95, 0)


async def test_what_is_too_large_to_be_sent_is_refused_before_it_costs(world: World) -> None:
    person = await world.person()
    source = await with_picture(world, person, large())
    await health.sample(world.context)
    reply = await modify(person, source)
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (422, "picture-too-large")
    assert reply.json()["detail"].endswith("; one to modify may have 7.34 MB at most.")
    assert await world.credits_of(person) == (95, 0)
    assert (await modify(person, await with_picture(world, person))).status_code == 202
    await submit.submit_once(world.context)
    job = world.runpod.take("modify")
    assert job is not None
    assert job.input["image"].startswith("data:image/png;base64,")
    await world.settle_all()


@pytest.mark.parametrize("size", [MAXIMUM_INLINE_BYTES, MAXIMUM_INLINE_BYTES + 1])
async def test_the_largest_that_may_be_sent_is_taken(world: World, size: int) -> None:
    person = await world.person()
    source = await with_picture(world, person)
    await health.sample(world.context)
    await world.execute("UPDATE generations SET outputs = jsonb_set(outputs, '{0,bytes}', to_jsonb($1::integer))", size)
    assert (await modify(person, source)).status_code == (202 if size == MAXIMUM_INLINE_BYTES else 422)
    await world.settle_all()


async def test_before_any_worker_has_said_how_large_nothing_is_refused(world: World) -> None:
    person = await world.person()
    source = await with_picture(world, person)
    await world.execute("UPDATE generations SET outputs = jsonb_set(outputs, '{0,bytes}', '60000000')")
    assert (await modify(person, source)).status_code == 202
    await world.settle_all()


async def test_who_fetches_pictures_is_sent_the_address_of_a_large_one(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text("".join(ENTRY.format(name, "public" if name == "modify" else "passthrough") for name in ENDPOINTS))
    changes: dict[str, Any] = {f"endpoint_{name}": None for name in ENDPOINTS}
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, endpoints_file=file, **changes
    ) as world:
        person = await world.person()
        content = large()
        source = await with_picture(world, person, content)
        await health.sample(world.context)
        assert (await modify(person, source)).status_code == 202
        await submit.submit_once(world.context)
        job = world.runpod.take("modify")
        assert job is not None
        assert (await person.http.get(job.input["image"])).content == content
        await world.settle_all()
