"""Two attempts of one generation: a word that the other completed comes in the very moment in which it is given up.

It comes before the refund and is heeded, or after it and is on record for whoever tries again. There is no between.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import cast
from uuid import UUID

import httpx
import pytest
import structlog

from shared import generations
from shared.database import Connection, Pool
from tests.flow.again import try_again
from tests.flow.outputs import PICTURE
from tests.flow.slow_call import sending
from tests.flow.test_gaps import given_up
from tests.flow.test_useless_answers import the_first_gives, the_second_fails
from tests.flow.twice import (
    LOST,
    PURSUED,
    is_delivered,
    lost,
    says,
    the_first_ends_and_is_dropped,
    two_attempts,
)
from tests.flow.world import Person, World, pictures
from tests.local.runpod.jobs import Job
from worker import finish, poll, submit, sweep
from worker.context import Context
from worker.runpod import RunPod, open_http

Event = Callable[[], Awaitable[None]]

GAPS = range(1, 13)
"""More than there are connections in any step: the last ones are after its end."""


class Interrupted:
    """A pool; before its n-th connection something happens, or before each: in a gap between two transactions."""

    def __init__(self, pool: Pool, event: Event, *, at: int | None = None) -> None:
        self._pool, self._event, self._at = pool, event, at
        self._given, self.happened = 0, False

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        self._given += 1
        if self._at in (None, self._given):
            self.happened = True
            await self._event()
        async with self._pool.acquire() as connection:
            yield connection

    def of(self, context: Context) -> Context:
        return replace(context, pool=cast("Pool", self))


async def it_completes(world: World, job: Job) -> None:
    world.runpod.complete(job.id, pictures(1))
    await world.runpod.deliver_webhooks()


async def the_word_was_heeded_or_counts_for_whoever_tries_again(
    world: World, person: Person, generation_id: UUID, word: Event, *, heeded: bool, by: int
) -> None:
    if not heeded:
        assert await world.state(generation_id) == "failed"
        assert await world.credits_of(person) == (100, 0)
        await word()
        await try_again(world, person, generation_id)
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=by)
    assert len(world.runpod.calls_to("run")) == 2, "nothing is made anew"


@pytest.mark.parametrize("gap", GAPS)
async def test_while_the_failure_of_the_pursued_is_read(world: World, gap: int) -> None:
    """RunPod never named the first to us: until its word it is nothing that could be turned to."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_second_fails(world, second)

    async def word() -> None:
        await it_completes(world, first)

    pool = Interrupted(world.context.pool, word, at=gap)
    await finish.finish_once(pool.of(world.context))
    await the_word_was_heeded_or_counts_for_whoever_tries_again(
        world, person, generation_id, word, heeded=pool.happened, by=1
    )


@asynccontextmanager
async def the_first_is_pursued_again(world: World, person: Person) -> AsyncIterator[tuple[UUID, Job, Job]]:
    """The answer to the second one's call is on its way: RunPod has it, and we do not know its name."""
    generation_id = await given_up(world, person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        first, second = world.runpod.jobs("image")
        assert [world.runpod.take("image"), world.runpod.take("image")] == [first, second]
        await says(world, generation_id, 1, first.id)
        await world.pass_time(world.context.settings.lease)
        await sweep.sweep_once(world.context)
        assert await world.value(PURSUED, generation_id) == 1
        assert await world.state(generation_id) == "submitted"
        yield generation_id, first, second


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("why", ["gone", "deadline"])
async def test_while_the_pursued_is_found_to_be_out_of_reach(world: World, why: str, gap: int) -> None:
    """The other is the later one: its word does not hurry the generation, and fences nobody."""
    person = await world.person()
    async with the_first_is_pursued_again(world, person) as (generation_id, first, second):
        if why == "gone":
            world.runpod.forget(first.id)
            await world.pass_time(world.context.settings.lost_grace)
        else:
            await world.execute("UPDATE generations SET deadline_at = now()")

        async def word() -> None:
            await it_completes(world, second)

        await world.execute("UPDATE generations SET due_at = now()")
        pool = Interrupted(world.context.pool, word, at=gap)
        await poll.poll_once(pool.of(world.context))
        await the_word_was_heeded_or_counts_for_whoever_tries_again(
            world, person, generation_id, word, heeded=pool.happened, by=2
        )


async def waits(world: World) -> None:
    """Until somebody waits for a lock."""
    async with asyncio.timeout(10):
        while not await world.value(
            "SELECT EXISTS (SELECT FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database())"
        ):
            await asyncio.sleep(0.01)


async def test_the_word_is_being_written_down(world: World) -> None:
    """As `record_word` does: the settlement waits for its commit, and sees it."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_second_fails(world, second)
    world.runpod.complete(first.id, pictures(1))
    async with world.context.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE generation_attempts SET remote_id = $1, remote_status = 'COMPLETED' WHERE attempt = 1", first.id
        )
        failing = asyncio.create_task(finish.finish_once(world.context))
        await waits(world)
    await failing
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=1)


async def test_the_word_comes_while_the_settlement_waits_for_its_row(world: World) -> None:
    """Somebody else has the row for a moment. What was seen before that wait is stale."""
    person = await world.person()
    async with the_first_is_pursued_again(world, person) as (generation_id, _, second):
        await world.execute("UPDATE generations SET deadline_at = now(), due_at = now()")
        claimed = await poll.claim(world.context, 1)
        async with world.context.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM generations WHERE id = $1 FOR NO KEY UPDATE", generation_id)
            failing = asyncio.create_task(poll.ask_all(world.context, claimed))
            await waits(world)
            await it_completes(world, second)
        await failing
        await world.settle_all()
        await is_delivered(world, person, generation_id, by=2)


async def test_whoever_gives_it_up_and_a_webhook_do_not_wait_for_each_other(world: World) -> None:
    """Both take the generation before its attempts. The webhook was first, so whoever read before it is fenced."""
    person = await world.person()
    generation_id = await world.submitted(person)
    (job,) = world.runpod.jobs("image")
    world.runpod.forget(job.id)
    await world.pass_time(world.context.settings.lost_grace)
    await world.execute("UPDATE generations SET due_at = now()")
    claimed = await poll.claim(world.context, 1)
    with structlog.testing.capture_logs() as said:
        async with world.context.pool.acquire() as connection, connection.transaction():
            assert await generations.hurry(connection, generation_id, attempt=1, completed=True)
            asking = asyncio.create_task(poll.ask_all(world.context, claimed))
            await waits(world)
            await connection.execute("UPDATE generation_attempts SET remote_status = 'COMPLETED'")
        await asking
    assert said == []
    assert await world.state(generation_id) == "submitted"
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "result-lost"


async def test_a_word_of_what_is_lost_keeps_nobody_from_the_refund(world: World) -> None:
    """However often it is said, and whatever the pursued one's webhook repeats: refunded at once."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_ends_and_is_dropped(world, first)
    await lost(world)
    assert await world.value(LOST) == [1]
    world.runpod.take("image")
    world.runpod.fail(second.id, "out of memory")
    await world.poll_now()

    async def words() -> None:
        await says(world, generation_id, 1, first.id)
        await says(world, generation_id, 2, second.id)

    pool = Interrupted(world.context.pool, words)
    assert await finish.finish_once(pool.of(world.context)) == 1
    assert (await world.reasons(generation_id))[-1] == "model-failed"
    assert await world.credits_of(person) == (100, 0)


async def test_whoever_copies_the_result_is_not_disturbed(world: World) -> None:
    """The other one completes meanwhile, and says so three times: charged once, for what was copied."""
    person = await world.person()
    generation_id, first, second = await two_attempts(world, person)
    await the_first_gives(world, first, {"images": ["https://93.184.215.14/1.png"]})
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if second.state != "COMPLETED":
            world.work_off("image", pictures(1))
        for _ in range(3):
            await says(world, generation_id, 2, second.id)
        return httpx.Response(200, content=PICTURE, headers={"content-type": "image/png"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as outside:
        await finish.finish_once(replace(world.context, outside=outside))
    assert len(asked) == 1
    await is_delivered(world, person, generation_id, by=1)


# ---------------------------------------------------------------------------------------------------- while it is sent


async def test_while_runpod_refuses_to_take_it_once_more(world: World) -> None:
    person = await world.person()
    generation_id = await given_up(world, person)
    (first,) = world.runpod.jobs("image")
    assert world.runpod.take("image") is first

    async def refuse(_: httpx.Request) -> httpx.Response:
        await it_completes(world, first)
        return httpx.Response(400, json={"error": "no"})

    async with open_http(world.context.settings, transport=httpx.MockTransport(refuse)) as http:
        await submit.submit_once(replace(world.context, runpod=RunPod(http)))
    assert await world.state(generation_id) == "submitting", "the sweep has it after the lease"
    await world.pass_time(world.context.settings.lease)
    await world.settle_all()
    await is_delivered(world, person, generation_id, by=1)
    assert await world.attempts(generation_id) == ["accepted", "refused"]


@pytest.mark.parametrize("attempt", [1, 2])
async def test_while_the_sweep_gives_it_up(world: World, attempt: int) -> None:
    """Nobody could tell of either, for so long that it is to be refunded."""
    person = await world.person()
    generation_id = await given_up(world, person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        jobs = world.runpod.jobs("image")
        assert [world.runpod.take("image"), world.runpod.take("image")] == jobs
        await world.pass_time(world.context.settings.lease)
        await sweep.sweep_once(world.context)
        await world.pass_time(world.context.settings.submit_grace)
        claimed = await sweep.claim(world.context, 10)
        await it_completes(world, jobs[attempt - 1])
        await sweep.mend_all(world.context, claimed)
        assert await world.state(generation_id) == "submitting"
        await world.pass_time(world.context.settings.lease + timedelta(seconds=1))
        await world.settle_all()
        await is_delivered(world, person, generation_id, by=attempt)
