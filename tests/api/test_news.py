"""Following one's account, over TCP: every warning once, however often the line breaks, and each new balance."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from api.hub import LISTENERS_PER_PERSON
from api.settings import ApiSettings
from shared.generations import State
from tests.api.conftest import Caller, World, open_world
from tests.api.ladder import climb
from tests.api.test_events import served
from tests.local.issuer import Issuer

Event = tuple[str | None, str, dict[str, Any]]


@pytest.fixture
async def streaming(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[tuple[World, str]]:
    async with open_world(make_settings(), issuer) as world, served(world) as url:
        yield world, url


@contextlib.asynccontextmanager
async def following(
    url: str, person: Caller, *, query: str = "", last: str | None = None, told: Sequence[str] = ("balance", "warning")
) -> AsyncIterator[AsyncIterator[Event]]:
    """(id, event, data) of each event of these names as it comes."""
    headers = person.world.headers(person.user_id) | ({"Last-Event-ID": last} if last is not None else {})
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as client,
        client.stream("GET", f"{url}/v1/events{query}", headers=headers) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "no-transform" in reply.headers["cache-control"]
        yield (event async for event in read(reply.aiter_lines()) if event[1] in told)


async def read(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield fields.get("id"), fields["event"], orjson.loads(fields["data"])
            fields = {}


async def follow(url: str, person: Caller, *, until: int, query: str = "", last: str | None = None) -> list[Event]:
    """The first events."""
    async with following(url, person, query=query, last=last) as events:
        return [await anext(events) for _ in range(until)]


def warnings(heard: list[Event]) -> list[tuple[str | None, str]]:
    return [(place, data["code"]) for place, event, data in heard if event == "warning"]


async def test_warnings_and_balances_come_as_they_happen(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=17, overdraft_limit=50)
    async with following(url, person) as events:
        heard = [await anext(events)]
        for news in (1, 2, 1, 2, 0):
            await person.submit(type="image")
            heard += [await anext(events) for _ in range(news)]
    told = [(event, data["available"], data.get("code")) for _, event, data in heard]
    assert told == [
        ("balance", 17, None),
        ("balance", 12, None),
        ("balance", 7, None),
        ("warning", 7, "low-balance"),
        ("balance", 2, None),
        ("balance", 0, None),
        ("warning", 0, "overdraft"),
    ]


async def test_fifty_reconnects_lose_and_double_no_warning(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=12, overdraft_limit=500)
    [(place, event, data)] = await follow(url, person, until=1)
    assert (place, event, data["available"]) == ("0", "balance", 12)
    await person.submit(type="image")
    await person.submit(type="video")
    known = [(str(w["id"]), w["code"]) for w in reversed((await person("GET", "/v1/credits")).json()["warnings"])]
    assert [code for _, code in known] == ["low-balance", "overdraft"]
    for _ in range(25):
        heard: list[tuple[str | None, str]] = []
        last = place
        while len(heard) < 2:
            [_, (last, event, data)] = await follow(url, person, until=2, last=last)
            heard.append((last, data["code"]))
        assert heard == known


async def test_from_now_on_or_from_where_one_says(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person = await world.person(granted=12, overdraft_limit=500)
    await person.submit(type="image")
    await person.submit(type="video")
    [first, second] = [w["id"] for w in reversed((await person("GET", "/v1/credits")).json()["warnings"])]
    [(place, _, _)] = await follow(url, person, until=1)
    assert place == str(second), "what was told before is not told again"
    assert len(warnings(await follow(url, person, until=3, query="?starting_after=0"))) == 2
    assert warnings(await follow(url, person, until=2, query=f"?starting_after={first}")) == [
        (str(second), "overdraft")
    ]
    [(place, _, _)] = await follow(url, person, until=1, last="9" * 18)
    assert place == str(second), "nobody has heard of what has not happened"


async def test_one_hears_of_oneself_alone(streaming: tuple[World, str]) -> None:
    world, url = streaming
    person, other = await world.person(granted=12), await world.person(granted=40)
    await person.submit(type="image")
    assert warnings(await follow(url, other, until=1, query="?starting_after=0")) == []


async def test_places_in_line_come_as_they_change(streaming: tuple[World, str]) -> None:
    """Of all that is open; of what ended nothing more is said."""
    world, url = streaming
    person = await world.person(granted=20)
    made = [UUID((await person.submit(type="video")).json()["id"]) for _ in range(2)]
    places: dict[str, list[int | None]] = {str(generation_id): [] for generation_id in made}
    async with following(url, person, told=("queue",)) as events, world.pool.acquire() as connection:
        while not all(places.values()):
            _, _, data = await anext(events)
            places[data["generation_id"]].append(data["position"])
        first, second = (places[str(generation_id)][0] for generation_id in made)
        assert first is not None
        assert second == first + 1
        await climb(connection, made[0], State.SUBMITTED)
        while not all(len(told) > 1 for told in places.values()):
            _, _, data = await anext(events)
            places[data["generation_id"]].append(data["position"])
        assert [told[1] for told in places.values()] == [None, first]


async def test_nonsense_is_refused_and_streams_are_counted(world: World) -> None:
    person = await world.person()
    for query in ("?starting_after=-1", "?starting_after=x", f"?starting_after={10**18}"):
        assert (await person("GET", f"/v1/events{query}")).status_code == 422
    hub = world.state.hub
    with hub.listen(person.user_id) as _:
        for _ in range(LISTENERS_PER_PERSON - 1):
            hub._listeners[person.user_id].add(type(next(iter(hub._listeners[person.user_id])))())
        reply = await person("GET", "/v1/events")
        assert (reply.status_code, reply.json()["code"]) == (429, "too-many-streams")
