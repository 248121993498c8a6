"""Following a generation: nothing lost, nothing twice, and an end. Over TCP, because a stream must really stream."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Container
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
import uvicorn

from api.events import Places, heard_until
from api.places import TOLD_SECONDS
from api.settings import ApiSettings
from shared import events, generations
from shared.generations import State
from tests.api.conftest import World, open_world
from tests.api.ladder import MINUTE, climb
from tests.local.issuer import Issuer
from tests.local.leashed import free_port
from worker import streams
from worker.chunks import Drained

DURABLE = ("transition", "chunk", "text")


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """The world's app on a real port; its lifespan is the world's."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(world.app, host="127.0.0.1", port=port, lifespan="off", log_config=None, access_log=False)
    )
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        world.state.hub.close()
        server.should_exit = True
        await task


@pytest.fixture
async def streaming(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[tuple[World, str]]:
    async with open_world(make_settings(), issuer) as world, served(world) as url:
        yield world, url


@contextlib.asynccontextmanager
async def hearing(
    url: str, headers: dict[str, str], generation_id: UUID, *, told: Container[str]
) -> AsyncIterator[tuple[int, AsyncIterator[dict[str, object]]]]:
    """The status, and what each event of these names says, as it comes."""
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
        client.stream("GET", f"{url}/v1/generations/{generation_id}/events", headers=headers) as reply,
    ):
        yield reply.status_code, said(reply.aiter_lines(), told)


async def said(lines: AsyncIterator[str], told: Container[str]) -> AsyncIterator[dict[str, object]]:
    name = ""
    async for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name in told:
            yield orjson.loads(line.removeprefix("data: "))


async def follow(
    url: str, headers: dict[str, str], generation_id: UUID, *, limit: int | None = None
) -> tuple[int, list[dict[str, object]]]:
    """Read transitions and chunks until the stream ends, or `limit` of them."""
    heard: list[dict[str, object]] = []
    async with hearing(url, headers, generation_id, told=DURABLE) as (status, events):
        async for event in events:
            heard.append(event)
            if limit is not None and len(heard) >= limit:
                break
        return status, heard


async def test_a_stream_tells_the_whole_story_and_ends(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=10)
    headers = world.headers(person.user_id)
    generation_id = UUID((await person.submit()).json()["id"])
    listening = asyncio.create_task(follow(url, headers, generation_id))
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, State.COMPLETED)
    _, heard = await listening
    assert [event["to"] for event in heard] == [
        "reserved", "submitting", "submitted", "running", "finishing", "completed",
    ]  # fmt: skip
    assert [event["version"] for event in heard] == [1, 2, 3, 4, 5, 6]
    status, nothing = await follow(url, {**headers, "Last-Event-ID": "6"}, generation_id)
    assert (status, nothing) == (204, [])


async def test_a_stream_tells_of_the_place_in_line_as_it_changes(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person, other = await world.person(granted=10), await world.person(granted=10)
    ahead = UUID((await other.submit()).json()["id"])
    world.state.estimates.forget()
    submitted = (await person.submit()).json()
    place, generation_id = submitted["queue"]["position"], UUID(submitted["id"])
    assert place >= 1
    headers = world.headers(person.user_id)
    async with hearing(url, headers, generation_id, told=["queue"]) as (_, events), world.pool.acquire() as connection:
        first = await anext(events)
        assert first == {"generation_id": submitted["id"], **submitted["queue"]}
        await climb(connection, ahead, State.SUBMITTING)
        assert await anext(events) == {**first, "position": place - 1}
        await climb(connection, generation_id, State.SUBMITTED)
        assert await anext(events) == {**first, "position": None}, "it was sent"


async def test_another_time_is_told_too_when_the_last_word_is_some_seconds_old(world: World) -> None:
    """Also after it was sent, when its place changes no more."""
    person, now = await world.person(granted=100), [1000.0]
    told = Places(clock=lambda: now[0])

    async def heard(ago: float) -> list[int]:
        async with world.pool.acquire() as connection:
            await connection.execute(
                "UPDATE generations SET submitted_at = now() - make_interval(secs => $2) WHERE id = $1", one.id, ago
            )
            found = await generations.get(connection, one.id)
            assert found is not None
        events = await told.moved(world.state, [found])
        return [orjson.loads(event.split(b"data: ")[1])["eta_seconds"]["p50"] for event in events]

    async with world.pool.acquire() as connection:
        for _ in range(5):
            generation_id = UUID((await person.submit(type="video")).json()["id"])
            await climb(connection, generation_id, State.COMPLETED)
        await connection.execute(
            "UPDATE generations SET submitted_at = finished_at - interval '60 s' WHERE type = 'video'"
        )
        world.state.estimates.forget()
        one = await climb(connection, UUID((await person.submit(type="video")).json()["id"]), State.SUBMITTED)
    assert await heard(10.5) == [50]
    assert await heard(20.5) == [], "it was told just now"
    now[0] += TOLD_SECONDS
    assert await heard(20.5) == [40]
    now[0] += TOLD_SECONDS
    assert await heard(22.5) == [], "nearly the same"
    assert await told.moved(world.state, []) == []
    assert await heard(22.5) == [38], "of what was not looked at nothing is kept"


async def test_fifty_reconnects_lose_and_double_nothing(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=10)
    headers = world.headers(person.user_id)
    generation_id = UUID((await person.submit()).json()["id"])
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, State.COMPLETED)
    for _ in range(10):
        heard: list[object] = []
        while len(heard) < 6:
            last = {"Last-Event-ID": str(heard[-1])} if heard else {}
            _, more = await follow(url, {**headers, **last}, generation_id, limit=1)
            heard += [event["version"] for event in more]
        assert heard == [1, 2, 3, 4, 5, 6]


async def test_fifty_reconnects_at_random_lose_and_double_no_piece_of_a_text(streaming: tuple[World, str]) -> None:
    """The text is written while it is read; every connection is cut after a few events, whatever they are."""
    world, url = streaming
    dice = random.Random(20261125)
    person = await world.person(granted=10)
    headers = world.headers(person.user_id)
    generation_id = UUID((await person.submit(type="text")).json()["id"])

    async def write() -> None:
        async with world.pool.acquire() as connection:
            generation = await climb(connection, generation_id, State.SUBMITTED)
            await streams.open_stream(connection, generation)
            (stream,) = await streams.claim(connection, lease_token=uuid4(), lease=MINUTE, limit=1)
            for number in range(150):
                if number == 50:
                    await climb(connection, generation_id, State.RUNNING, beginning=State.RUNNING)
                word = Drained(state=None, text=f"{number} ", count=1, body=b'["%d "]' % number)
                async with connection.transaction():
                    assert await streams.append(connection, stream, word, lease=MINUTE)
                stream = stream.after(word)
                await events.announce(world.state.queue, [generation])
            await climb(connection, generation_id, State.COMPLETED, beginning=State.FINISHING)

    writing = asyncio.create_task(write())
    heard: list[dict[str, object]] = []
    connections = 0
    while not heard or heard[-1].get("to") != "completed":
        last = {"Last-Event-ID": place(heard[-1])} if heard else {}
        heard += (await follow(url, {**headers, **last}, generation_id, limit=dice.randint(1, 4)))[1]
        connections += 1
    await writing
    assert connections >= 50
    assert [event["to"] for event in heard if "to" in event] == [
        "reserved", "submitting", "submitted", "running", "finishing", "completed",
    ]  # fmt: skip
    assert "".join(str(event["text"]) for event in heard if "text" in event) == "".join(f"{n} " for n in range(150))
    _, again = await follow(url, headers, generation_id)
    assert again == heard, "the order is the same for whoever comes later"


def place(event: dict[str, object]) -> str:
    """The id of an event, as its data tells."""
    return f"{event['version']}.{event['seq']}" if "seq" in event else str(event["version"])


async def test_streams_are_not_kept_or_held_back(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=10)
    generation_id = (await person.submit()).json()["id"]
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream(
            "GET",
            f"{url}/v1/generations/{generation_id}/events?starting_after=1",
            headers=world.headers(person.user_id),
        ) as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in reply.headers["cache-control"]
        assert reply.headers["x-accel-buffering"] == "no"
        async for line in reply.aiter_lines():
            assert line.startswith("retry: ")
            break


async def test_word_comes_through_redis(world: World) -> None:
    person = await world.person(granted=10)
    with world.state.hub.listen(person.user_id) as listener:
        await listener.wait(0.5)
        for _ in range(100):
            await world.state.queue.publish(
                f"{world.state.queue.default_queue_name}:events", orjson.dumps([{"user_id": person.user_id}])
            )
            if listener.heard:
                break
            await asyncio.sleep(0.01)
        assert listener.heard


async def test_garbled_word_is_survived(world: World) -> None:
    for data in (b"{", b"7", b"[7]", b'[{"user_id": 5}]', b"{}"):
        world.state.hub.hear(data)


@pytest.mark.parametrize(
    ("last_event_id", "starting_after", "expected"),
    [
        (None, None, (0, 0)),
        ("3", None, (3, 0)),
        ("3.17", None, (3, 17)),
        ("3", "5", (3, 0)),
        (None, "5", (5, 0)),
        (None, "5.2", (5, 2)),
        ("x", "5", (5, 0)),
        ("3.", "5", (5, 0)),
        ("3.1.4", "5", (5, 0)),
        ("9" * 20, None, (0, 0)),
        ("3." + "9" * 20, None, (0, 0)),
        ("\u0663", "2", (2, 0)),
    ],
)
def test_where_to_go_on(last_event_id: str | None, starting_after: str | None, expected: tuple[int, int]) -> None:
    assert heard_until(last_event_id, starting_after) == expected
