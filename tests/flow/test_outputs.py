"""Where outputs go: into storage before anything is charged, with a thumbnail; and what if they cannot."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image
from prometheus_client import REGISTRY

from tests.flow.world import Person, World, open_world, picture, pictures
from tests.local import bucket
from worker import finish
from worker.keep import LAST_TRY, keep
from worker.main import Loops
from worker.memory import Pool
from worker.outputs import Item
from worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def s3() -> Iterator[bucket.Bucket]:
    with bucket.running() as running:
        yield running


@pytest.fixture
async def over_s3(
    s3: bucket.Bucket, monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    """A world whose outputs are kept in a bucket."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, storage_url=s3.url
    ) as opened:
        yield opened


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


# ------------------------------------------------------------------------------------------------------- thumbnails


async def outputs_of(person: Person, generation_id: UUID) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = (await person.http.get(f"/v1/generations/{generation_id}")).json()["outputs"]
    return outputs


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

PICTURE = base64.b64decode(picture().split(",")[1])
ELSEWHERE = "https://93.184.215.14/made.png"


async def until_given_up(world: World, person: Person, output: Any, *, policy: str, **ask: Any) -> UUID:
    """A result that cannot be copied, seen at the deadline by a worker with this policy."""
    generation_id = await world.finishing(person, output, **ask)
    context = replace(world.context, settings=with_policy(world.context.settings, policy))
    await finish.finish_once(context)
    assert await world.state(generation_id) == "finishing", "tried again until the deadline, whatever the policy"
    await world.pass_time(context.settings.finish_deadline)
    await finish.finish_once(context)
    return generation_id


def with_policy(settings: WorkerSettings, policy: str) -> WorkerSettings:
    return settings.model_copy(update={"unkept_outputs": policy})


@pytest.fixture
async def address_away(world: World) -> AsyncIterator[World]:
    """A world in which the place where models leave their outputs answers 503, but for `kept.png`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/kept.png":
            return httpx.Response(200, content=PICTURE)
        return httpx.Response(503)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as outside:
        yield replace(world, context=replace(world.context, outside=outside))


@pytest.mark.parametrize("status", [403, 404, 408, 425, 429, 502])
async def test_an_address_that_is_not_there_yet_is_asked_again(world: World, status: int) -> None:
    """A store says that something is not there, and a second later it is."""
    answers = iter([httpx.Response(status), httpx.Response(200, content=PICTURE)])
    person = await world.person()
    generation_id = await world.finishing(person, {"images": [ELSEWHERE]})
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(answers))) as outside:
        there = replace(world.context, outside=outside)
        await finish.finish_once(there)
        assert (await world.state(generation_id), await world.credits_of(person)) == ("finishing", (95, 5))
        await world.pass_time(timedelta(seconds=5))
        await finish.finish_once(there)
    assert await world.charged(generation_id) == 5


@pytest.mark.parametrize(
    ("policy", "end"), [("refund", ("failed", "outputs-lost", 0)), ("reference", ("completed", "delivered", 5))]
)
async def test_an_address_that_never_comes_is_for_the_policy(
    world: World, policy: str, end: tuple[str, str, int]
) -> None:
    person = await world.person()
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as outside:
        there = replace(world, context=replace(world.context, outside=outside))
        generation_id = await until_given_up(there, person, {"images": [ELSEWHERE]}, policy=policy)
    ended = (await world.state(generation_id), (await world.reasons(generation_id))[-1])
    assert (*ended, await world.charged(generation_id)) == end


async def test_an_address_where_nothing_will_ever_be_is_not_waited_for(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, {"images": [ELSEWHERE]})
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(410))) as outside:
        await finish.finish_once(replace(world.context, outside=outside))
    assert (await world.reasons(generation_id))[-1] == "unfit-output"


async def test_what_could_be_copied_is_delivered_and_only_the_rest_refunded(address_away: World) -> None:
    world = address_away
    person = await world.person()
    images = [ELSEWHERE, "https://93.184.215.14/kept.png", picture("red")]
    generation_id = await until_given_up(world, person, {"images": images}, policy="refund", batch_size=3)
    assert [output["kept"] for output in await outputs_of(person, generation_id)] == [True, True]
    assert await world.charged(generation_id) == 10
    assert await world.credits_of(person) == (90, 0)


async def test_addresses_that_never_answer_take_no_time_from_the_others_on_the_last_try(world: World) -> None:
    """Each waits for a minute at most, and a round for four: four of them would be the end of all."""

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/kept.png":
            await asyncio.Event().wait()
        return httpx.Response(200, content=PICTURE)

    person = await world.person()
    urls = [*(f"https://93.184.215.14/{number}.png" for number in range(4)), "https://93.184.215.14/kept.png"]
    await world.finishing(person, {"images": urls}, batch_size=5)
    (generation,) = await finish.claim(world.context, 1)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as outside, asyncio.timeout(30):
        there = replace(world.context, outside=outside)
        items = [Item(url=url) for url in urls]
        outputs = await keep(there, generation, items, last=True, within=timedelta(seconds=1))
    assert [output["media_type"] for output in outputs] == ["image/png"]
    assert LAST_TRY.total_seconds() < finish.LONGEST_SECONDS


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


async def test_refund_gives_everything_back(address_away: World) -> None:
    world = address_away
    person = await world.person()
    generation_id = await until_given_up(world, person, {"images": [ELSEWHERE]}, policy="refund")
    assert await world.state(generation_id) == "failed"
    assert (await world.reasons(generation_id))[-1] == "outputs-lost"
    assert await world.credits_of(person) == (100, 0)


async def test_reference_delivers_the_address_and_says_so(address_away: World) -> None:
    world = address_away
    person = await world.person()
    before = unkept()
    generation_id = await until_given_up(world, person, {"images": [ELSEWHERE]}, policy="reference")
    (output,) = await outputs_of(person, generation_id)
    assert output == {"index": 0, "kind": "image", "url": ELSEWHERE, "kept": False}
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert unkept() - before == 1
    page = (await person.http.get("/")).text
    assert f'href="{ELSEWHERE}" target="_blank" rel="noopener noreferrer"' in page
    assert f'src="{ELSEWHERE}"' not in page, "what we have not looked at is not shown in our name"


def unkept() -> float:
    return REGISTRY.get_sample_value("twin_outputs_unkept_total") or 0


async def test_what_can_be_kept_is_kept_and_the_rest_referred_to(address_away: World) -> None:
    world = address_away
    person = await world.person()
    images = [ELSEWHERE, "https://93.184.215.14/kept.png", picture("red")]
    generation_id = await until_given_up(world, person, {"images": images}, policy="reference", batch_size=3)
    outputs = await outputs_of(person, generation_id)
    assert [output["kept"] for output in outputs] == [False, True, True]
    assert [output["index"] for output in outputs] == [0, 1, 2]
    assert await world.charged(generation_id) == 15


async def test_what_has_no_address_cannot_be_referred_to_and_is_not_charged(s3: bucket.Bucket, over_s3: World) -> None:
    world = over_s3
    person = await world.person()
    s3.stop()
    try:
        both = {"images": [picture("red"), "https://93.184.215.14/kept.png"]}
        fetched = httpx.MockTransport(lambda _: httpx.Response(200, content=PICTURE))
        async with httpx.AsyncClient(transport=fetched) as outside:
            there = replace(world, context=replace(world.context, outside=outside))
            half = await until_given_up(there, person, both, policy="reference", batch_size=2)
        none = await until_given_up(world, person, pictures(1), policy="reference")
    finally:
        s3.start()
    assert [output["url"] for output in await outputs_of(person, half)] == ["https://93.184.215.14/kept.png"]
    assert await world.charged(half) == 5
    assert (await world.state(none), await world.charged(none)) == ("failed", 0)
    assert await world.credits_of(person) == (95, 0)


async def test_an_address_that_is_never_asked_is_not_handed_on(address_away: World) -> None:
    world = address_away
    person = await world.person()
    images = [ELSEWHERE, "https://127.0.0.1/secret.png"]
    generation_id = await until_given_up(world, person, {"images": images}, policy="reference", batch_size=2)
    assert [output["url"] for output in await outputs_of(person, generation_id)] == [ELSEWHERE]
    assert await world.charged(generation_id) == 5


async def test_what_was_not_kept_cannot_be_modified(address_away: World) -> None:
    world = address_away
    person = await world.person()
    generation_id = await until_given_up(world, person, {"images": [ELSEWHERE]}, policy="reference")
    order = {"type": "modify", "prompt": "bluer", "source": {"generation_id": str(generation_id)}}
    reply = await person.http.post("/v1/generations", json=order)
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (422, "no-such-picture")


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
