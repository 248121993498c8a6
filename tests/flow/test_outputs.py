"""Where outputs go: into storage before anything is charged, with a thumbnail; and what if they cannot."""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.flow.outputs import ELSEWHERE, PICTURE, outputs_of
from tests.flow.world import World, open_world, picture, pictures
from tests.local import bucket
from worker import finish
from worker.main import Loops
from worker.memory import Pool


async def test_a_bucket_that_goes_away_costs_time_and_nothing_else(s3: bucket.Bucket, over_s3: World) -> None:
    world = over_s3
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    s3.stop()
    try:
        await finish.finish_once(world.context)
        assert await world.state(generation_id) == "finishing", "nothing is charged before the output is ours"
        assert await world.credits_of(person) == (95, 5)
        assert await finish.finish_once(world.context) == 0, "not before the wait is over"
    finally:
        s3.start()
    await world.pass_time(timedelta(seconds=5))
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5
    (output,) = (await person.http.get(f"/v1/generations/{generation_id}")).json()["outputs"]
    shown = await person.http.get(output["url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert len(shown.content) == output["bytes"]
    part = await person.http.get(output["url"], headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")


async def test_an_address_that_has_run_out_shows_nothing_and_a_new_one_is_given(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    await finish.finish_once(world.context)
    (output,) = await outputs_of(person, generation_id)
    front, _, token = output["url"].rpartition("/")
    signer = world.context.settings.signer("media")
    _, named = signer.verify(token).split(b" ", 1)

    async def shown(expires: float) -> httpx.Response:
        return await person.http.get(f"{front}/{signer.sign(b'%d %b' % (expires, named))}")

    assert (await shown(time.time() + 60)).status_code == 200
    refused = await shown(time.time() - 1)
    assert (refused.status_code, refused.json()["code"]) == (403, "invalid-token")
    assert "has expired; ask for the generation again" in refused.json()["detail"]
    (given,) = await outputs_of(person, generation_id)
    assert (await person.http.get(given["url"])).status_code == 200


# ------------------------------------------------------------------------------------------------------- thumbnails


async def test_a_picture_has_a_thumbnail_beside_it(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, {"images": [picture(size=(1024, 640))]})
    await finish.finish_once(world.context)
    (output,) = await outputs_of(person, generation_id)
    small = output["thumbnail"]
    assert (small["width"], small["height"], output["width"], output["kept"]) == (512, 320, 1024, True)
    shown = await person.http.get(small["url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert Image.open(BytesIO(shown.content)).size == (512, 320)
    page = (await person.http.get("/")).text
    assert f'<img src="{httpx.URL(small["url"]).raw_path.decode()}"' in page
    assert 'width="512" height="320" loading="lazy"' in page


async def test_a_picture_that_none_can_be_made_of_goes_without(world: World) -> None:
    """16 bits a pixel: a browser shows it, Pillow would have to guess."""
    buffer = BytesIO()
    Image.new("I;16", (64, 64)).save(buffer, "PNG")
    person = await world.person()
    generation_id = await world.finishing(person, {"images": [base64.b64encode(buffer.getvalue()).decode()]})
    await finish.finish_once(world.context)
    (output,) = await outputs_of(person, generation_id)
    assert "thumbnail" not in output
    assert await world.charged(generation_id) == 5
    page = await person.http.get("/")
    assert f'<img src="{httpx.URL(output["url"]).path}"' in page.text, "the page shows the picture itself"


async def test_a_row_from_before_there_were_thumbnails(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    await finish.finish_once(world.context)
    await world.execute("UPDATE generations SET outputs = outputs #- '{0,thumbnail}'")
    (output,) = await outputs_of(person, generation_id)
    assert "thumbnail" not in output
    page = await person.http.get("/")
    assert f'<img src="{httpx.URL(output["url"]).path}"' in page.text


# ------------------------------------------------------------------------------- what could not be copied in time


async def test_a_text_waits_for_nobodys_store(database_url: str, redis_url: str, tmp_path: Path) -> None:
    """Pictures at addresses that do not answer have all the slots, for a minute each, until their finish deadline."""

    async def silent(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    asked, stopping = asyncio.Event(), asyncio.Event()
    told: dict[str, Any] = {"finish_slots": 1, "drain": timedelta(milliseconds=100)}
    async with (
        open_world(database_url=database_url, redis_url=redis_url, folder=tmp_path, **told) as world,
        httpx.AsyncClient(transport=httpx.MockTransport(silent)) as outside,
    ):
        person = await world.person()
        text = await world.submitted(person, type="text")
        await world.finishing(person, {"images": [ELSEWHERE]})
        loops = asyncio.create_task(Loops(replace(world.context, outside=outside)).run(stopping))
        try:
            async with asyncio.timeout(30):
                await asked.wait()
                world.work_off("text", "a calm sea")
                await world.execute("UPDATE generations SET due_at = now() WHERE id = $1", text)
                while await world.state(text) != "completed":
                    await asyncio.sleep(0.05)
        finally:
            stopping.set()
            await loops


# ------------------------------------------------------------------------------------- what was ordered, or nothing


def clip() -> str:
    """The shortest MP4 that is one, as ComfyUI gives it."""
    boxes = (b"ftyp" + b"isom\0\0\2\0isomiso2avc1mp41", b"moov" + b"x" * 16, b"mdat" + b"x" * 16)
    return base64.b64encode(b"".join((4 + len(box)).to_bytes(4) + box for box in boxes)).decode()


def loop() -> str:
    """A moving WebP."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("teal", "red")]
    buffer = BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=80)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(("moving", "media_type"), [(clip, "video/mp4"), (loop, "image/webp")])
async def test_a_still_that_a_workflow_saves_beside_its_clip_is_not_sold_in_its_place(
    world: World, moving: Callable[[], str], media_type: str
) -> None:
    """ComfyUI lists what SaveImage and SaveVideo wrote side by side, as `images`."""
    person = await world.person()
    images = [
        {"filename": "a.png", "type": "base64", "data": picture().split(",")[1]},
        {"filename": "a.mp4", "type": "base64", "data": moving()},
    ]
    generation_id = await world.finishing(person, {"images": images}, type="video")
    await finish.finish_once(world.context)
    (output,) = await outputs_of(person, generation_id)
    assert output["media_type"] == media_type
    assert await world.charged(generation_id) == 10


async def test_more_than_was_ordered_is_neither_kept_nor_charged(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(
        person, {"images": [picture(c) for c in ("red", "teal", "navy")]}, batch_size=2
    )
    await finish.finish_once(world.context)
    assert [output["index"] for output in await outputs_of(person, generation_id)] == [0, 1]
    assert await world.charged(generation_id) == 10


@pytest.mark.parametrize(("kind", "made"), [("video", picture), ("image", clip)])
async def test_what_was_not_ordered_is_not_charged(world: World, kind: str, made: Callable[[], str]) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, {"result": made()}, type=kind)
    await finish.finish_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "unfit-output"
    assert await world.credits_of(person) == (100, 0)


# ----------------------------------------------------------------------------------------------- memory is bounded


@pytest.mark.parametrize("pool", ["answers", "media", "pixels"])
async def test_finishing_waits_until_there_is_memory(world: World, pool: str) -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=PICTURE))) as http:
        there = replace(world.context, outside=http)
        person = await world.person()
        generation_id = await world.finishing(person, {"images": ["https://93.184.215.14/a.png"]})
        budget: Pool = getattr(there.memory, pool)
        async with budget.hold(budget.total), asyncio.timeout(30):
            finishing = asyncio.create_task(finish.finish_once(there))
            while not budget._waiting:
                await asyncio.sleep(0.01)
                assert not finishing.done(), "it did not ask"
            assert await world.state(generation_id) == "finishing"
        await finishing
    assert await world.charged(generation_id) == 5
    assert budget.free == budget.total


async def test_a_picture_too_large_to_make_small_goes_without(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, {"images": [picture(size=(64, 64))]})
    tight = replace(world.context, memory=replace(world.context.memory, pixels=Pool(64 * 64)))
    await finish.finish_once(tight)
    (output,) = await outputs_of(person, generation_id)
    assert (output["width"], "thumbnail" in output) == (64, False)
