"""Streams that break: workers that die or sleep, writes whose reply is lost, looks that fail, texts that end midway."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import httpx

from tests.flow.texts import NOT_AT_ALL, NOW, PRICE, claimed, drain, lease_runs_out, shown, text_of, trouble, writing
from tests.flow.world import Person, World
from tests.local.runpod.jobs import Job
from worker import finish, stream, streams
from worker.chunks import Drained
from worker.runpod import RunPod, open_http


async def test_killed_between_drain_and_write_the_full_output_has_the_last_word(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two ")
    mine = await claimed(world)
    async with world.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM generations WHERE id = $1 FOR UPDATE", generation_id)
        dying = asyncio.create_task(stream.follow(world.context, mine, ending=NOW))
        async with asyncio.timeout(10):
            while not await world.value(
                "SELECT EXISTS (SELECT FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database())"
            ):
                await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    assert await shown(world, generation_id) == "one ", "two was read, and died with its reader"
    world.runpod.stream(job.id, "three")
    await lease_runs_out(world)
    await drain(world)
    assert await shown(world, generation_id) == "one three"
    assert await trouble(world) == "interrupted"
    world.runpod.complete(job.id, ["one ", "two ", "three"])
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two three"
    assert await world.value("SELECT count(*) FROM generation_chunks WHERE replaces") == 1, (
        "the page is told to replace"
    )
    assert await world.charged(generation_id) == PRICE


async def test_killed_between_drain_and_write_without_a_full_output_nothing_is_charged(world: World) -> None:
    """Nobody can tell what is missing: a text with a hole is not sold."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.stream(job.id, "two ")
    await claimed(world)
    await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    await lease_runs_out(world)
    world.runpod.stream(job.id, "three")
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert (await world.reasons(generation_id))[-1] == "stream-broken"
    assert await world.credits_of(person) == (100, 0)


async def test_a_worker_is_killed_midway_and_another_goes_on(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    dead = await claimed(world)
    read = await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    assert await stream.heed(world.context, dead, read) is not None
    world.runpod.stream(job.id, "two")
    assert await stream.stream_once(world.context) == 0, "the lease may still be somebody's"
    await lease_runs_out(world)
    await drain(world)
    assert await shown(world, generation_id) == "one two"
    world.runpod.complete(job.id, ["one ", "two"])
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"


async def test_a_paused_worker_writes_nothing(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    zombie = await claimed(world)
    await lease_runs_out(world)
    owner = await claimed(world)
    late = Drained(state=None, text="late", count=1, body=b'["late"]')
    assert await stream.heed(world.context, zombie, late) is None
    async with world.context.pool.acquire() as connection, connection.transaction():
        assert not await streams.renew(connection, zombie, lease=world.context.settings.lease)
        await streams.give_back(connection, zombie, wait=timedelta(0))
        assert not await streams.end(connection, zombie)
    assert await shown(world, generation_id) == ""
    await stream.follow(world.context, owner, ending=NOW)
    assert await stream.heed(world.context, zombie, late) is None, "what another wrote is not taken for its own"
    assert await shown(world, generation_id) == "one "
    world.runpod.complete(job.id, ["one "])
    await world.settle_all()


async def test_a_paused_finisher_adds_nothing_to_the_text(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one")
    await drain(world)
    world.runpod.complete(job.id)
    await drain(world)
    await world.poll_now()
    (zombie,) = await finish.claim(world.context, 10)
    await world.pass_time(world.context.settings.lease)
    (owner,) = await finish.claim(world.context, 10)
    async with world.context.pool.acquire() as connection, connection.transaction():
        assert not await streams.conclude(connection, zombie, "one more")
    assert await shown(world, generation_id) == "one"
    await finish.finish(world.context, owner)
    async with world.context.pool.acquire() as connection, connection.transaction():
        assert not await streams.conclude(connection, owner, "one more"), "it has ended"
    assert await text_of(world, person, generation_id) == "one"


async def test_a_write_whose_reply_was_lost_is_not_written_twice(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "once ")
    mine = await claimed(world)
    read = await world.context.runpod.stream("text", job.id, hold=NOT_AT_ALL)
    assert isinstance(read, Drained)
    for _ in range(2):
        assert await stream.heed(world.context, mine, read) == timedelta(0), "it is written, and the lease is ours"
    assert await shown(world, generation_id) == "once "
    await lease_runs_out(world)
    world.runpod.complete(job.id, ["once "])
    await world.settle_all()


async def told_twice(world: World, person: Person) -> tuple[UUID, Job]:
    """The first worker died. What was drained of it comes before all that the second says."""
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    world.runpod.lose(job.id)
    assert world.runpod.take("text") is job
    world.runpod.stream(job.id, "one two")
    await drain(world)
    assert await shown(world, generation_id) == "one one two"
    return generation_id, job


async def test_the_full_output_has_the_last_word_over_a_text_that_was_told_twice(world: World) -> None:
    person = await world.person()
    generation_id, job = await told_twice(world, person)
    world.runpod.complete(job.id, ["one two"])
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"
    assert await world.charged(generation_id) == PRICE


async def test_a_text_that_was_told_twice_and_is_nowhere_whole_is_not_sold(world: World) -> None:
    person = await world.person()
    generation_id, job = await told_twice(world, person)
    world.runpod.complete(job.id)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "stream-broken"
    assert await shown(world, generation_id) == ""
    assert await world.credits_of(person) == (100, 0)


async def test_a_text_that_dies_midway_costs_nothing(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "half of ")
    await drain(world)
    world.runpod.fail(job.id, "out of memory")
    await world.settle_all()
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["outputs"], reply["error"]["code"]) == ("failed", [], "model-failed")
    assert await world.credits_of(person) == (100, 0)


async def test_a_text_that_dies_midway_is_charged_where_that_is_the_policy(charging: World) -> None:
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, "half of ")
    await drain(world)
    world.runpod.stream(job.id, "it")
    world.runpod.fail(job.id, "out of memory")
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "half of it", "what came last counts too"
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert reply["outputs"][0]["partial"] is True
    assert (await world.reasons(generation_id))[-1] == "delivered-partly"
    assert await world.credits_of(person) == (100 - PRICE, 0)


async def test_a_text_that_dies_before_its_first_word_is_never_charged(charging: World) -> None:
    world = charging
    person = await world.person()
    generation_id, job = await writing(world, person, "")
    await drain(world)
    world.runpod.fail(job.id, "out of memory")
    await world.settle_all()
    assert await world.state(generation_id) == "failed"
    assert await world.credits_of(person) == (100, 0)


async def test_a_404_while_the_machines_only_start_ends_no_stream(world: World) -> None:
    """The poll waits for 15 minutes then; what the job says in the end is drained, and is all there is of it."""
    person = await world.person()
    generation_id = await world.submitted(person, type="text")
    await world.execute("UPDATE endpoint_states SET starting_at = now()")
    world.runpod.weather.order("forgotten")
    await world.pass_time(timedelta(minutes=4))
    await drain(world)
    await world.poll_now()
    assert await world.state(generation_id) == "submitted"
    world.runpod.weather.clear()
    job = world.runpod.take("text")
    assert job is not None
    world.runpod.stream(job.id, "here ")
    await drain(world)
    assert await shown(world, generation_id) == "here "
    world.runpod.stream(job.id, "at last")
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "here at last"
    assert await world.charged(generation_id) == PRICE


async def test_a_runpod_that_holds_no_look_is_not_asked_as_fast_as_it_answers(world: World) -> None:
    person = await world.person()
    await writing(world, person)
    mine = await claimed(world)
    asked = []

    def nothing(request: httpx.Request) -> httpx.Response:
        asked.append(asyncio.get_running_loop().time())
        return httpx.Response(200, json={"status": "IN_PROGRESS" if len(asked) < 4 else "COMPLETED", "stream": []})

    async with open_http(world.context.settings, transport=httpx.MockTransport(nothing)) as http:
        hasty = replace(world.context, runpod=RunPod(http))
        await stream.follow(hasty, mine, ending=asyncio.Event())
    assert min(later - before for before, later in pairwise(asked)) >= 0.9 * stream.PAUSE.total_seconds()
    await world.cancel_all()


async def test_a_look_that_runpod_refuses_has_lost_nothing(world: World) -> None:
    """Without a full output, all that was drained is the text: it must not be taken for one with a hole."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    await drain(world)
    refusing = httpx.MockTransport(lambda _: httpx.Response(400, json={"status": 400, "title": "Bad Request"}))
    async with open_http(world.context.settings, transport=refusing) as http:
        await drain(replace(world, context=replace(world.context, runpod=RunPod(http))))
    world.runpod.stream(job.id, "two")
    await drain(world)
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"


async def test_a_postgres_that_is_away_for_a_moment_breaks_no_text(world: World) -> None:
    """Whatever was read is written; a look that was not made has lost nothing."""
    person = await world.person()
    generation_id, job = await writing(world, person, "one ")
    mine = await claimed(world)
    cut = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with world.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM endpoint_allowances WHERE operation = 'stream' FOR UPDATE")
        following = asyncio.create_task(stream.follow(world.context, mine, ending=NOW))
        async with asyncio.timeout(10):
            while not await world.value(cut):
                await asyncio.sleep(0.01)
    await following
    assert await shown(world, generation_id) == "one "
    world.runpod.stream(job.id, "two")
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one two"


async def test_no_look_takes_longer_than_sigterm_waits(world: World) -> None:
    """Cut off, it would count as chunks that were lost, and every deploy would break the texts that are being made."""
    person = await world.person()
    await writing(world, person)
    mine = await claimed(world)
    holds = []

    def nothing(request: httpx.Request) -> httpx.Response:
        holds.append(int(request.url.params["wait"]))
        return httpx.Response(200, json={"status": "IN_PROGRESS" if len(holds) < 3 else "COMPLETED", "stream": []})

    settings = world.context.settings.model_copy(update={"drain": timedelta(seconds=4)})
    async with open_http(settings, transport=httpx.MockTransport(nothing)) as http:
        hurried = replace(world.context, runpod=RunPod(http), settings=settings)
        await stream.follow(hurried, mine, ending=asyncio.Event())
    assert holds == [0, 2000, 2000]
    await world.cancel_all()
