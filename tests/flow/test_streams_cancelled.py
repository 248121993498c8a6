"""A text that somebody reads and then cancels: free and gone, or kept and paid, by TWIN_BROKEN_STREAM; never both."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.flow.texts import NOT_AT_ALL, PRICE, claimed, drain, lease_runs_out, shown, text_of, writing
from tests.flow.world import Person, World, open_world
from worker import finish, poll, stream, streams, submit, sweep
from worker.chunks import Drained
from worker.stops import CANCEL_GRACE

WORDS = [f"word {number} " for number in range(50)]
READ = "".join(WORDS)


@pytest.fixture
async def charging(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world in which what came of a broken text is kept and charged."""
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, broken_stream="charge"
    ) as opened:
        yield opened


async def cancel(person: Person, generation_id: UUID) -> None:
    assert (await person.http.post(f"/v1/generations/{generation_id}/cancel")).status_code == 202


async def told(person: Person, generation_id: UUID) -> str:
    """Everything that is served of it."""
    path = f"/v1/generations/{generation_id}"
    return (await person.http.get(path)).text + (await person.http.get(f"{path}/events")).text


async def test_what_was_read_and_cancelled_is_free_and_gone(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, *WORDS)
    await drain(world)
    assert "word 49" in await shown(world, generation_id), "everything but the end mark"
    await cancel(person, generation_id)
    await poll.poll_once(world.context)
    assert (await world.state(generation_id), job.state) == ("cancelled", "CANCELLED")
    assert await world.credits_of(person) == (100, 0)
    assert "word" not in await told(person, generation_id)
    for table in ("generation_chunks", "generation_drains"):
        assert await world.value(f"SELECT count(*) FROM {table}") == 0  # noqa: S608
    await world.settle_all()


async def test_what_was_read_and_cancelled_is_kept_and_paid_where_that_is_the_policy(charging: World) -> None:
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, *WORDS)
    await drain(world)
    await cancel(person, generation_id)
    await world.settle_all()
    assert job.state == "CANCELLED"
    assert await text_of(world, person, generation_id) == READ
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["outputs"][0]["partial"], reply["cost"]["charged"]) == (True, PRICE)
    assert await world.credits_of(person) == (100 - PRICE, 0)


async def test_cancelled_before_its_first_word_is_free_under_every_policy(charging: World) -> None:
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, "")
    await drain(world)
    await cancel(person, generation_id)
    await world.settle_all()
    assert (await world.state(generation_id), job.state) == ("cancelled", "CANCELLED")
    assert (await world.reasons(generation_id))[-1] == "cancelled-by-person"
    assert await world.credits_of(person) == (100, 0)


async def test_a_word_that_was_read_as_it_was_cancelled_is_sold_with_the_rest_or_not_shown(charging: World) -> None:
    """A look is under way: written before the settlement it is paid, after it nobody sees it."""
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two ")
    mine = await claimed(world)
    read = await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    assert isinstance(read, Drained)
    await cancel(person, generation_id)
    await poll.poll_once(world.context)
    assert await stream.heed(world.context, mine, read) is not None
    mine = mine.after(read)
    await finish.finish_once(world.context)
    late = Drained(state=None, text="three", count=1, body=b'["three"]')
    assert await stream.heed(world.context, mine, late) is None, "after the end nothing is written"
    assert await text_of(world, person, generation_id) == "one two "
    assert await world.charged(generation_id) == PRICE


async def test_a_word_that_is_written_as_it_is_cancelled_stays_nowhere(world: World) -> None:
    """The settlement waits for the look that has the row, and takes what it wrote, too."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two ")
    mine = await claimed(world)
    await cancel(person, generation_id)
    asked = await poll.claim(world.context, 1)
    async with world.context.pool.acquire() as connection, connection.transaction():
        written = Drained(state=None, text="two ", count=1, body=b'["two "]')
        assert await streams.append(connection, mine, written, lease=world.context.settings.lease)
        settling = asyncio.create_task(poll.ask_all(world.context, asked))
        async with asyncio.timeout(10):
            while not await world.value(
                "SELECT EXISTS (SELECT FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database())"
            ):
                await asyncio.sleep(0.01)
    await settling
    assert await world.state(generation_id) == "cancelled"
    assert await shown(world, generation_id) == ""
    assert await world.credits_of(person) == (100, 0)


@pytest.mark.parametrize("policy", ["refund", "charge"])
async def test_one_that_completed_first_is_whole_and_paid(
    database_url: str, redis_url: str, tmp_path: Path, policy: str
) -> None:
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, broken_stream=policy
    ) as world:
        person = await world.person()
        generation_id, job = await writing(world, person, *WORDS)
        await drain(world)
        world.runpod.complete(job.id)
        await cancel(person, generation_id)
        await world.settle_all()
        assert await text_of(world, person, generation_id) == READ
        reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
        assert not reply["outputs"][0].get("partial")
        assert await world.credits_of(person) == (100 - PRICE, 0)


async def test_a_cancel_that_runpod_does_not_answer_is_free_and_gone(charging: World) -> None:
    """Its job may run on and is an orphan, so there is no end to sell."""
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, *WORDS)
    await drain(world)
    await cancel(person, generation_id)
    world.runpod.weather.order("server_error")
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "submitted", "it is asked again for so long"
    await world.pass_time(CANCEL_GRACE)
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "cancelled"
    assert "word" not in await told(person, generation_id)
    assert await world.credits_of(person) == (100, 0)
    world.runpod.weather.clear()
    assert await sweep.cancel_orphans(world.context) == 1
    assert job.state == "CANCELLED"


async def test_what_broke_off_and_was_refunded_is_gone(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, *WORDS)
    await drain(world)
    late = await claimed(world)
    world.runpod.fail(job.id, "out of memory")
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert "word 0" not in await told(person, generation_id)
    assert await stream.heed(world.context, late, Drained(None, "late", 1, b'["late"]')) is None
    assert await world.value("SELECT trouble FROM generation_streams") == "dropped"
    await lease_runs_out(world)
    await world.settle_all()
    assert await shown(world, generation_id) == ""


async def cancelled_unheard(world: World, person: Person) -> UUID:
    """Cancelled before its first word; RunPod did not say that it stopped, and it goes on there."""
    generation_id = await world.submitted(person, type="text")
    await cancel(person, generation_id)
    world.runpod.weather.order("server_error", operation="cancel")
    await world.pass_time(CANCEL_GRACE)
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "cancelled"
    world.runpod.weather.clear()
    return generation_id


@pytest.mark.parametrize("sent_again", [True, False])
async def test_what_nobody_read_before_the_end_is_read_by_the_round_that_turns_to_it(
    world: World, *, sent_again: bool
) -> None:
    """Its webhook says that it completed after all; all of it is at /stream, and nowhere else."""
    person = await world.person()
    generation_id = await cancelled_unheard(world, person)
    job = world.runpod.take("text")
    assert job is not None
    for word in WORDS:
        world.runpod.stream(job.id, word)
    if sent_again:
        assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 202
        await submit.submit_once(world.context)
    world.runpod.complete(job.id)
    await world.runpod.deliver_webhooks()
    if not sent_again:
        assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 202
    await world.settle_all()
    await drain(world)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == READ
    assert await world.credits_of(person) == (100 - PRICE, 0)


async def test_what_somebody_may_have_read_before_the_end_is_not_sold_as_whole(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    job = world.runpod.take("text")
    assert job is not None
    world.runpod.stream(job.id, "one ")
    reader = await claimed(world)
    read = await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    await cancel(person, generation_id)
    world.runpod.weather.order("server_error", operation="cancel")
    await world.pass_time(CANCEL_GRACE)
    await poll.poll_once(world.context)
    world.runpod.weather.clear()
    assert await stream.heed(world.context, reader, read) is None
    world.runpod.stream(job.id, "two")
    world.runpod.complete(job.id)
    await world.runpod.deliver_webhooks()
    assert (await person.http.post(f"/v1/generations/{generation_id}/retry")).status_code == 202
    await world.settle_all()
    await drain(world)
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)
