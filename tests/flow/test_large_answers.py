"""What RunPod sends and what it is sent, when that is large: no more is in memory at once than there is room for."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from tests.flow.test_sources import modify, with_picture
from tests.flow.world import World
from worker import poll, submit
from worker.answers import SMALL_ANSWER_BYTES
from worker.memory import COPIES_OF_ANSWER, COPIES_OF_SOURCE
from worker.runpod import RunPod, open_http

MIB = 1 << 20
PIECE = b"A" * (64 * 1024)


class Results:
    """A RunPod whose jobs have all completed, with results of so many bytes; it counts what is on its way at once."""

    def __init__(self, size: int, *, announced: bool = False) -> None:
        self.size = size
        self.announced = announced
        self.on_its_way: Counter[str] = Counter()
        self.most = 0

    async def body(self, job_id: str) -> AsyncIterator[bytes]:
        head, tail = b'{"id":"%s","status":"COMPLETED","output":{"images":["' % job_id.encode(), b'"]}}'
        yield head
        for _ in range((self.size - len(head) - len(tail)) // len(PIECE)):
            self.on_its_way[job_id] += len(PIECE)
            self.most = max(self.most, self.on_its_way.total())
            yield PIECE
            await asyncio.sleep(0)  # the others' turn
        yield b"A" * ((self.size - len(head) - len(tail)) % len(PIECE)) + tail
        del self.on_its_way[job_id]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        headers = {"content-length": str(self.size)} if self.announced else {}
        return httpx.Response(200, headers=headers, content=self.body(request.url.path.rsplit("/", 1)[1]))


async def end_unpaid(world: World) -> None:
    """The letters A are no picture: what came is of no more interest."""
    await world.execute("""UPDATE generation_results SET body = '{"id": "x", "status": "FAILED"}'""")
    await world.settle_all()


@pytest.mark.parametrize("announced", [True, False])
async def test_many_large_results_of_one_moment_take_turns(world: World, *, announced: bool) -> None:
    person = await world.person(credits_granted=1000)
    submitted = [await world.submitted(person) for _ in range(12)]
    await world.execute("UPDATE generations SET due_at = now()")
    results = Results(10 * MIB, announced=announced)
    async with open_http(world.context.settings, transport=httpx.MockTransport(results)) as http:
        await poll.poll_once(replace(world.context, runpod=RunPod(http)))
    assert {await world.state(each) for each in submitted} == {"finishing"}
    memory = world.context.memory
    assert COPIES_OF_ANSWER * results.most <= memory.answers.total + memory.giants.total
    assert (memory.answers.free, memory.giants.free) == (memory.answers.total, memory.giants.total)
    await end_unpaid(world)


async def test_while_finishing_has_all_the_memory_small_answers_are_read(world: World) -> None:
    """How a job stands, and a small result; what is not small waits for room before it is read."""
    person = await world.person(credits_granted=1000)
    submitted = [await world.submitted(person) for _ in range(3)]
    await world.execute("UPDATE generations SET due_at = now()")
    small, large = Results(SMALL_ANSWER_BYTES), Results(SMALL_ANSWER_BYTES + 3 * len(PIECE))
    answers = world.context.memory.answers
    async with (
        open_http(world.context.settings, transport=httpx.MockTransport(small)) as http,
        answers.hold(answers.total),
    ):
        await poll.poll_once(replace(world.context, runpod=RunPod(http)), limit=2)
    states = [await world.state(each) for each in submitted]
    assert sorted(states) == ["finishing", "finishing", "submitted"]
    async with open_http(world.context.settings, transport=httpx.MockTransport(large)) as http:
        async with answers.hold(answers.total):
            polling = asyncio.create_task(poll.poll_once(replace(world.context, runpod=RunPod(http))))
            async with asyncio.timeout(10):
                while large.most < SMALL_ANSWER_BYTES:
                    await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert large.most <= SMALL_ANSWER_BYTES + len(PIECE), "read on without room"
        await polling
    assert {await world.state(each) for each in submitted} == {"finishing"}
    await end_unpaid(world)


async def test_a_picture_has_its_share_of_the_memory_while_it_is_sent(world: World) -> None:
    person = await world.person()
    source = await with_picture(world, person)
    assert (await modify(person, source)).status_code == 202
    size = await world.value("SELECT (outputs -> 0 ->> 'bytes')::integer FROM generations WHERE id = $1", source)
    answers, held = world.context.memory.answers, []

    def run(_: httpx.Request) -> httpx.Response:
        held.append(answers.total - answers.free)
        return httpx.Response(200, text='{"id": "job-u1", "status": "IN_QUEUE"}')

    async with open_http(world.context.settings, transport=httpx.MockTransport(run)) as http:
        await submit.submit_once(replace(world.context, runpod=RunPod(http)))
    assert held == [COPIES_OF_SOURCE * size]
    assert answers.free == answers.total
    await world.execute("UPDATE generations SET cancel_requested_at = now(), due_at = now() WHERE state = 'submitted'")
    await world.settle_all()
