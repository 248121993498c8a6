"""Outputs that cannot be copied: addresses where nothing is, a bucket that is away, and the policy for them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY

from tests.flow.outputs import ELSEWHERE, PICTURE, outputs_of
from tests.flow.world import Person, World, picture, pictures
from tests.local import bucket
from worker import finish
from worker.keep import LAST_TRY, keep
from worker.media import MAXIMUM_MEDIUM_BYTES
from worker.outputs import Item
from worker.settings import WorkerSettings


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


@pytest.mark.parametrize("announced", [None, "10", str(96 << 20)], ids=["not", "too little", "as it is"])
async def test_an_output_too_large_to_keep_is_not_paid_for(world: World, announced: str | None) -> None:
    """Alone it fails the generation, at once; beside another it is what did not come."""

    async def too_much() -> AsyncIterator[bytes]:
        for _ in range(96):
            came.append(1 << 20)
            yield bytes(1 << 20)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/kept.png":
            return httpx.Response(200, content=PICTURE)
        headers = {} if announced is None else {"content-length": announced}
        return httpx.Response(200, content=too_much(), headers=headers)

    came: list[int] = []
    person = await world.person()
    alone = await world.finishing(person, {"images": [ELSEWHERE]})
    images = [ELSEWHERE, "https://93.184.215.14/kept.png"]
    beside = await world.finishing(person, {"images": images}, batch_size=2)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as outside:
        await finish.finish_once(replace(world.context, outside=outside))
    assert (await world.state(alone), (await world.reasons(alone))[-1]) == ("failed", "unfit-output")
    assert (await world.state(beside), await world.charged(beside)) == ("completed", 5)
    assert await world.credits_of(person) == (95, 0)
    assert sum(came) == 2 * (MAXIMUM_MEDIUM_BYTES + (1 << 20)), "no more was read, and neither of them again"
    media = world.context.memory.media
    assert media.free == media.total


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
