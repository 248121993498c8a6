"""Breakers: what opens one and what does not, how one closes again, and what waits meanwhile."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.flow.routed import another_worker, breaker_of, changes_of, samples, told_to_ops, where
from tests.flow.world import ADMIN, World, pictures
from worker import breaker, health, submit, sweep
from worker.submit import claim, send_all


@pytest.fixture
def world(routed: World) -> World:
    """Two endpoints for images: the second is asked when the first cannot be."""
    return routed


async def test_when_all_are_closed_they_wait_and_one_probe_finds_out(world: World) -> None:
    """Ten workers look at once when the time has come: one generation goes, and opens the door for the others."""
    person = await world.person()
    world.runpod.weather.order("paused")
    ids = [await world.ask(person) for _ in range(6)]
    for _ in range(3):
        await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == await breaker_of(world, "second") == "open"
    assert {await world.state(each) for each in ids} == {"reserved"}
    await world.execute("UPDATE endpoint_states SET retry_at = now() + interval '1 hour' WHERE endpoint_id = 'second'")
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=1))
    before = len(world.runpod.calls_to("run", "first"))
    workers = [another_worker(world) for _ in range(10)]
    claims = await asyncio.gather(*(claim(each.context, 50) for each in workers))
    assert sum(map(len, claims)) == 1, "one probe, by one of all workers"
    assert await breaker_of(world, "first") == "half_open"
    assert await claim(another_worker(world).context, 50) == [], "the probe is out"
    for each, claimed in zip(workers, claims, strict=True):
        await send_all(each.context, claimed)
    assert len(world.runpod.calls_to("run", "first")) == before + 1
    assert await breaker_of(world, "first") == "closed"
    await submit.submit_once(world.context)
    assert {await world.state(each) for each in ids} == {"submitted"}
    assert await changes_of(world, "first") == ["open", "half_open", "closed"]


async def test_a_probe_that_fails_waits_twice_as_long(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused")
    await world.ask(person)
    patience = "SELECT retry_at - opened_at FROM endpoint_states WHERE endpoint_id = 'first'"
    await submit.submit_once(world.context)
    first = await world.value(patience)
    await world.pass_time(timedelta(minutes=1))
    await submit.submit_once(world.context)
    assert await world.value(patience) == 2 * first
    assert await changes_of(world, "first") == ["open", "half_open", "open"]


async def test_a_worker_that_dies_with_the_probe_blocks_nobody(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused")
    for _ in range(3):
        await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    world.runpod.weather.clear()
    await world.execute("UPDATE endpoint_states SET retry_at = now() + interval '1 hour' WHERE endpoint_id = 'second'")
    await world.pass_time(timedelta(minutes=1))
    assert len(await claim(another_worker(world).context, 50)) == 1
    assert await breaker_of(world, "first") == "half_open"
    await world.pass_time(world.context.settings.lease)
    await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "closed"
    await world.settle_all()


async def test_several_failures_in_a_row_open_it_and_one_success_between_them_does_not(world: World) -> None:
    person = await world.person()
    await world.submitted(person)
    for count in (breaker.FAILURES - 1, breaker.FAILURES - 1):
        world.runpod.weather.order("server_error", endpoint="first", operation="run", count=count)
        for _ in range(count + 1):
            await world.ask(person)
            await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "closed"
    world.runpod.weather.order("server_error", endpoint="first", operation="run", count=breaker.FAILURES)
    for _ in range(breaker.FAILURES):
        await world.ask(person)
        await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "open"
    later = await world.ask(person)
    await submit.submit_once(world.context)
    assert await where(world, later) == "second"
    await world.execute("UPDATE generations SET cancel_requested_at = now(), due_at = now() WHERE state = 'submitting'")
    await sweep.sweep_once(world.context)
    await world.settle_all()


async def test_failures_far_apart_open_nothing(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("server_error", endpoint="first", operation="run")
    for _ in range(breaker.FAILURES + 1):
        generation_id = await world.ask(person)
        await submit.submit_once(world.context)
        await world.execute("UPDATE generations SET cancel_requested_at = now() WHERE id = $1", generation_id)
        await world.pass_time(breaker.WINDOW)
    assert await breaker_of(world, "first") == "closed"
    await world.pass_time(world.context.settings.submit_grace)
    await sweep.sweep_once(world.context)


async def test_failed_jobs_open_nothing(world: World) -> None:
    """A bad prompt is its author's: nobody else is sent away for it."""
    person = await world.person()
    ids = [await world.ask(person) for _ in range(2 * breaker.FAILURES)]
    await submit.submit_once(world.context)
    while (job := world.runpod.take("first")) is not None:
        world.runpod.fail(job.id, "out of memory")
    await world.poll_now()
    await world.settle_all()
    assert {await world.state(each) for each in ids} == {"failed"}
    assert await breaker_of(world, "first") == "closed"


async def test_jobs_of_an_open_endpoint_are_asked_about_seldom_and_are_not_lost(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.weather.order("paused", endpoint="first")
    await world.ask(person)
    await submit.submit_once(world.context)
    await submit.submit_once(world.context)
    await world.poll_now()
    wait = await world.value("SELECT due_at - now() FROM generations WHERE id = $1", generation_id)
    assert wait > timedelta(seconds=10)
    world.work_off("first", pictures(1))
    world.work_off("second", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"


async def test_ops_see_what_the_breakers_did_and_what_the_endpoints_say(world: World) -> None:
    person, admin = await world.person(), await world.person(user_id=ADMIN)
    await world.submitted(person)
    world.runpod.weather.order("paused", endpoint="second")
    world.runpod.weather.order("paused", endpoint="first")
    await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    first, *_ = await told_to_ops(world, admin)
    assert first["jobs"] is None, "nobody has asked it yet"
    await health.sample(world.context)
    first, second, *_ = await told_to_ops(world, admin)
    assert (first["name"], first["type"], first["in_flight"]) == ("first", "image", 1)
    assert (first["breaker"], first["reason"]) == ("open", "endpoint-paused")
    assert first["retry_at"] is not None
    assert first["jobs"]["inQueue"] == 1
    assert first["workers"]["running"] == 0
    assert (second["breaker"], second["jobs"]["inQueue"]) == ("open", 0)
    metrics = await samples(world)
    assert metrics["twin_endpoint_breaker", "first", "open"] == 1
    assert metrics["twin_endpoint_breaker", "text", "open"] == 0
    assert metrics["twin_runpod_workers", "first", "idle"] == 0
    await world.execute("UPDATE endpoint_states SET sampled_at = now() - interval '1 hour'")
    first, *_ = await told_to_ops(world, admin)
    assert (first["jobs"], first["workers"]) == (None, None), "what it said an hour ago is not known now"
    assert ("twin_runpod_workers", "first", "idle") not in await samples(world)


async def test_no_time_is_told_to_who_waits_for_what_is_shut(world: World) -> None:
    """The first in line is next, but nobody knows when there will be a next."""
    person = await world.person()
    for _ in range(5):
        await world.submitted(person)
    world.work_off("first", pictures(1))
    await world.poll_now()
    await world.settle_all()

    async def told(generation_id: UUID) -> Any:
        world.app.state.twin.estimates.forget()
        return (await person.http.get(f"/v1/generations/{generation_id}")).json()["queue"]["eta_seconds"]

    world.runpod.weather.order("paused", endpoint="first")
    anywhere = await world.ask(person)
    named = await world.ask(person)
    await world.execute("UPDATE generations SET wanted_endpoint = 'first' WHERE id = $1", named)
    await submit.submit_once(world.context, limit=1)
    assert await breaker_of(world, "first") == "open"
    assert await told(anywhere) is not None, "the second takes it"
    assert await told(named) is None
    world.runpod.weather.order("paused", endpoint="second")
    await submit.submit_once(world.context, limit=1)
    assert await breaker_of(world, "second") == "open"
    assert await told(anywhere) is None
    await world.cancel_all()


async def test_failures_among_successes_of_one_claim_open_nothing(world: World) -> None:
    """What the worker saw at its claim is old by then: one in two that fails is not five in a row."""
    person = await world.person()
    for _ in range(12):
        await world.ask(person)
    claimed = await claim(world.context, 12)
    for number, each in enumerate(claimed):
        if number % 2 == 0:
            world.runpod.weather.order("server_error", operation="run", count=1)
        await submit.send(world.context, each)
    assert await world.attempts(claimed[0].id) == ["unknown"]
    assert await breaker_of(world, "first") == "closed"
    world.runpod.weather.clear()
    await world.cancel_all()
