"""Answers that were made to break us: every one of them ends, and ends right."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image, PngImagePlugin

from tests.flow.world import World, picture, pictures
from worker import finish, poll, stream, submit, sweep
from worker.answers import MAXIMUM_ANSWER_BYTES
from worker.runpod import RunPod, open_http


def png_with_a_large_note() -> str:
    note = PngImagePlugin.PngInfo()
    note.add_itxt("workflow", "x" * (2 << 20), zip=True)
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=note)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def nested(depth: int, leaf: Any = "x") -> Any:
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("kind", "output", "state"),
    [
        ("text", "hello\0world", "completed"),
        ("text", "x" * 300_000, "failed"),
        ("text", ['data: {"choices": null}\n\n'], "failed"),
        ("text", ['data: {"choices": [{"delta": "hi"}]}\n\n'], "failed"),
        ("image", {"images": ["https://[bad/x.png"]}, "failed"),
        ("image", {"images": ["https://example.com:99999/x.png"]}, "failed"),
        ("image", {"images": ["https://" + "a" * 64 + ".com/x.png"]}, "failed"),
        ("image", {"images": [png_with_a_large_note()]}, "failed"),
        ("image", {"error": nested(200)}, "failed"),
        ("image", {"images": nested(200)}, "failed"),
        ("image", {"images": [picture("red")[:60], picture()]}, "completed"),
    ],
)
async def test_no_output_keeps_a_generation_open(world: World, kind: str, output: Any, state: str) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, output, type=kind)
    await finish.finish_once(world.context)
    if kind == "text":  # an answer without words waits for the last of its stream
        await stream.stream_once(world.context)
        await finish.finish_once(world.context)
    assert await world.state(generation_id) == state
    assert (await world.credits_of(person))[1] == 0


async def test_storage_that_stays_away_ends_at_the_finish_deadline(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    (world.folder / "media").rename(world.folder / "away")
    (world.folder / "media").write_text("not a folder")
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "finishing"
    await world.pass_time(world.context.settings.finish_deadline)
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)


async def test_a_source_that_cannot_be_read_just_now_burns_no_attempt(world: World) -> None:
    person = await world.person()
    origin = await world.finishing(person, pictures(1))
    await finish.finish_once(world.context)
    source = {"generation_id": str(origin), "index": 0}
    generation_id = await world.ask(person, type="modify", source=source)
    (world.folder / "media").rename(world.folder / "away")
    (world.folder / "media").write_text("not a folder")
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "reserved"
    assert await world.attempts(generation_id) == ["not_sent"]
    (world.folder / "media").unlink()
    (world.folder / "away").rename(world.folder / "media")
    await world.pass_time(timedelta(minutes=1))
    await submit.submit_once(world.context)
    assert await world.state(generation_id) == "submitted"


async def with_answer(world: World, answer: dict[str, Any] | bytes) -> World:
    """The same world, in which RunPod gives this answer to everything."""
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    http = await world.stack.enter_async_context(open_http(world.context.settings, transport=transport))
    return replace(world, context=replace(world.context, runpod=RunPod(http)))


async def remote_id(world: World, generation_id: Any) -> str:
    return str(await world.value("SELECT remote_id FROM generations WHERE id = $1", generation_id))


@pytest.mark.parametrize("took", [1_764_000_000_000_000, 1.7e15, -5, "soon"])
async def test_an_absurd_duration_does_not_stop_the_result(world: World, took: Any) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    answer = {"id": await remote_id(world, generation_id), "status": "COMPLETED", "executionTime": took}
    lying = await with_answer(world, {**answer, "output": pictures(1)})
    await lying.poll_now()
    await finish.finish_once(lying.context)
    assert await world.charged(generation_id) == 5


async def test_half_an_emoji_does_not_lose_a_text(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    known = await remote_id(world, generation_id)
    body = b'{"id": "%s", "status": "COMPLETED", "output": "a cut emoji \\ud83d"}' % known.encode()
    await (await with_answer(world, body)).poll_now()
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "completed"


async def test_an_answer_about_another_job_is_nobodys_result(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await (await with_answer(world, {"id": "other-u1", "status": "COMPLETED", "output": pictures(1)})).poll_now()
    assert await world.state(generation_id) == "submitted"
    await world.settle_all()


async def test_an_answer_that_is_too_large_is_read_once(world: World) -> None:
    """It stays as large as it is, however often it is asked for."""
    person = await world.person()
    generation_id = await world.submitted(person)
    asked = []

    async def body() -> AsyncIterator[bytes]:
        asked.append("once more")
        for _ in range(MAXIMUM_ANSWER_BYTES >> 20):
            yield bytes(1 << 20)
        yield b"and one"

    huge = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
    async with open_http(world.context.settings, transport=huge) as http:
        context = replace(world.context, runpod=RunPod(http))
        for _ in range(3):
            await world.pass_time(timedelta(seconds=5))
            await poll.poll_once(context)
    assert len(asked) == 1
    assert (await world.reasons(generation_id))[-1] == "output-too-large"
    assert await world.credits_of(person) == (100, 0)
    await sweep.sweep_once(world.context)
    assert len(world.runpod.calls_to("cancel")) == 1, "it may run yet, and have told only how far it is"


async def test_progress_that_postgres_cannot_keep_holds_up_nobody(world: World) -> None:
    person = await world.person()
    first, second = await world.submitted(person), await world.submitted(person)
    for progress in ("50%\0", "60%"):
        job = world.runpod.take("image")
        assert job is not None
        world.runpod.progress(job.id, progress)
    await world.poll_now()
    await world.poll_now()
    leases = await world.value("SELECT count(lease_token) FROM generations")
    assert leases == 0
    assert {await world.state(first), await world.state(second)} == {"running"}


async def test_copying_longer_than_the_lease_keeps_the_lease(world: World) -> None:
    """A slow address: the row is not claimed again while it is worked on, and it is settled in the end."""
    asked = 0

    async def slowly(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.4)
        return httpx.Response(200, content=base64.b64decode(picture().split(",")[1]))

    short = world.context.settings.model_copy(update={"lease": timedelta(seconds=0.3)})
    async with httpx.AsyncClient(transport=httpx.MockTransport(slowly)) as outside:
        context = replace(world.context, settings=short, outside=outside)
        person = await world.person()
        urls = [f"https://93.184.215.14/{number}.png" for number in range(3)]
        generation_id = await world.finishing(person, {"images": urls}, batch_size=3)
        claimed = await finish.claim(context, 10)
        work = asyncio.create_task(finish.finish_all(context, claimed))
        while not work.done():
            assert not [g for g in await finish.claim(context, 10) if g.id == generation_id]
            await asyncio.sleep(0.05)
    assert await world.charged(generation_id) == 15
    assert asked == 3


async def test_an_outage_of_ours_does_not_throw_away_what_runpod_finished(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.pass_time(world.context.settings.queue_deadline + timedelta(minutes=2))
    world.runpod.weather.order("rate_limited", operation="status", count=1)
    world.runpod.weather.order("rate_limited", operation="cancel", count=1)
    await world.poll_now()
    assert await world.state(generation_id) == "submitted"
    await world.pass_time(timedelta(seconds=5))  # what Retry-After asked for
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_an_endpoint_that_is_not_found_is_not_a_lost_result(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await world.pass_time(world.context.settings.lost_grace)
    body = b'{"status":404,"title":"Not Found","detail":"endpoint not found"}'
    transport = httpx.MockTransport(lambda _: httpx.Response(404, content=body))
    async with open_http(world.context.settings, transport=transport) as http:
        gone = replace(world.context, runpod=RunPod(http))
        await world.execute("UPDATE generations SET due_at = now()")
        await poll.poll_once(gone)
    assert await world.state(generation_id) == "submitted"
    await world.settle_all()


async def test_what_runpod_says_when_it_refuses_is_not_for_the_person(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    transport = httpx.MockTransport(lambda request: httpx.Response(400, content=b"you sent " + request.content))
    async with open_http(world.context.settings, transport=transport) as http:
        context = replace(world.context, runpod=RunPod(http))
        await submit.submit_once(context)
    shown = (await person.http.get(f"/v1/generations/{generation_id}")).text
    assert "you sent" not in shown
    kept = await world.value("SELECT detail FROM generation_attempts WHERE generation_id = $1", generation_id)
    assert "you sent" in kept
    assert "webhooks/runpod" not in kept, "the capability is in what we sent"
    assert await world.attempts(generation_id) == ["refused"]
