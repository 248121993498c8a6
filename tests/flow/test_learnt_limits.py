"""How much of a crowd is sent to an endpoint of which nobody said how much it runs: what its own /health shows."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.flow.machines import Machines
from tests.flow.routed import ENTRY, another_worker, at_once, open_routed, open_with, told_to_ops
from tests.flow.world import ADMIN, ENDPOINTS, Person, World
from worker import capacity, health, submit
from worker.main import Loops
from worker.runpod import RunPod, open_http

REMOTE_ID = "SELECT remote_id FROM generations WHERE id = $1"
DUE = "SELECT sample_due_at - now() FROM endpoint_states WHERE endpoint_id = 'image'"


async def asked(world: World, count: int) -> Person:
    """Somebody with so many that wait."""
    crowd = await world.person(credits_granted=10 * count)
    for _ in range(count):
        await world.ask(crowd)
    return crowd


async def test_a_machine_that_runs_thirty_at_once_is_filled_within_a_few_samples(world: World) -> None:
    machine = Machines(world, at_once=30)
    await asked(world, 50)
    samples = 0
    while len(machine.running) < 30:
        await machine.sampled()
        samples += 1
        await machine.sent()
        machine.take()
    assert samples <= 7
    await machine.sampled()
    await machine.sent()
    assert machine.waiting <= 15, "what waits there is gone through while half a job runs"
    await machine.emptied()


async def test_machines_that_stand_idle_are_filled_at_once(world: World) -> None:
    machines = Machines(world, count=8)
    await machines.sampled()
    await asked(world, 20)
    assert await machines.sent() == 8 + 2
    machines.take()
    await machines.sampled()
    assert len(machines.running) == 8
    assert await machines.sent() == 0, "one each: it is not tried whether they would run more"
    await machines.emptied()


async def test_when_machines_go_less_is_sent(world: World) -> None:
    machines = Machines(world, count=8)
    await machines.sampled()
    await asked(world, 20)
    await machines.sent()
    machines.take()
    machines.lose(7)
    await machines.sampled()
    for left in (9, 8, 7, 6, 5, 4, 3, 2):
        machines.end()
        await world.poll_now()
        assert await machines.sent() == 0
        assert await at_once(world, "image") == left
        machines.take()
        await machines.sampled()
    machines.end()
    await world.poll_now()
    assert await machines.sent() == 1
    await machines.emptied()


async def test_jobs_whose_end_nobody_told_us_of_do_not_starve_the_machine(world: World) -> None:
    """No webhook comes, and polls are late: it has ended all that we believe is there."""
    machine = Machines(world)
    await asked(world, 12)
    for _ in range(10):
        await machine.sampled()
        assert await machine.sent() >= 1
        machine.take()
        machine.end()
        machine.take()
        machine.end()
    await world.cancel_all()


async def test_what_was_learnt_counts_for_as_long_as_it_is_fresh(world: World) -> None:
    """RunPod does not say how it is: before the first answer, and long after the last, it gets a hundred."""
    machine = Machines(world)
    person = await world.person(credits_granted=1000)
    world.runpod.weather.order("server_error", operation="health")
    await machine.sampled()
    for _ in range(3):
        await world.submitted(person)
    world.runpod.weather.clear()
    await machine.sampled()
    waits = await world.ask(person)
    assert await machine.sent() == 0
    world.runpod.weather.order("server_error", operation="health")
    await world.pass_time(capacity.FRESH - timedelta(seconds=5))
    await machine.sampled()
    assert await machine.sent() == 0, "two that were not answered are passed over"
    await world.pass_time(timedelta(seconds=5))
    assert await machine.sent() == 1
    assert await world.state(waits) == "submitted"
    async with world.context.pool.acquire() as connection:
        deal = await world.context.router.places(connection, 1, token=uuid4(), lease=timedelta(seconds=30))
    assert deal.limits["image"] == capacity.UNLEARNT == 100
    await world.cancel_all()


async def test_an_answer_without_counts_unlearns(world: World) -> None:
    """What the one before it taught is not as fresh as this one."""
    machine = Machines(world)
    await machine.sampled()
    await asked(world, 5)
    await machine.sent()
    assert await at_once(world, "image") == 2
    said = httpx.MockTransport(lambda _: httpx.Response(200, json={"workers": {"idle": 1}}))
    async with open_http(world.context.settings, transport=said) as http:
        await world.execute("UPDATE endpoint_states SET sample_due_at = now()")
        await health.sample(replace(world.context, runpod=RunPod(http)))
    await machine.sent()
    assert await at_once(world, "image") == 5
    await world.cancel_all()


async def test_ops_see_what_was_learnt_beside_what_is_there(world: World) -> None:
    machine = Machines(world)
    person, admin = await world.person(), await world.person(user_id=ADMIN)
    await world.submitted(person)
    (before,) = await told_to_ops(world, admin)
    assert (before["in_flight"], before["learnt_limit"]) == (1, None)
    machine.take()
    await machine.sampled()
    (after,) = await told_to_ops(world, admin)
    assert (after["in_flight"], after["learnt_limit"]) == (1, 2)
    await world.execute("UPDATE endpoint_states SET learnt_at = learnt_at - $1::interval", capacity.FRESH)
    (later,) = await told_to_ops(world, admin)
    assert later["learnt_limit"] is None
    await world.cancel_all()


async def test_what_an_operator_said_goes_before_what_was_learnt(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The variable for one endpoint, its own profile for the other; neither is asked early."""
    terms = {"first": "max_concurrency = 3\n", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms, max_concurrency=4) as world:
        first, second = Machines(world, "first"), Machines(world, "second")
        await first.sampled()
        await second.sampled()
        await asked(world, 9)
        await first.sent()
        assert (await at_once(world, "first"), await at_once(world, "second")) == (3, 4)
        told = "SELECT array_agg(said_limit ORDER BY endpoint_id) FROM endpoint_states WHERE type = 'image'"
        assert await world.value(told) == [3, 4], "for whoever tells how long a place takes to come free"
        soonest = await world.value("SELECT min(sample_due_at - now()) FROM endpoint_states")
        assert soonest > health.EVERY / 2
        await world.cancel_all()


async def test_a_full_endpoint_is_asked_again_soon_and_once(world: World) -> None:
    """Whichever worker finds it full; none of them asks right after another."""
    machine, workers = Machines(world), [world, another_worker(world)]
    await machine.sampled()
    await world.pass_time(timedelta(seconds=10))
    await asked(world, 6)
    assert await world.value(DUE) > timedelta(seconds=15), "nobody has tried"
    await machine.sent()
    found = await asyncio.gather(*(submit.submit_once(each.context) for each in workers))
    assert found == [0, 0]
    assert timedelta(0) < await world.value(DUE) <= capacity.SETTLED, "what was claimed is there first"
    calls = len(world.runpod.calls_to("health", "image"))
    for _ in range(3):  # each time as soon as it may be
        await world.pass_time(await world.value(DUE))
        machine.hear()
        await machine.sent()
        assert await world.value(DUE) <= timedelta(0), "who finds it full meanwhile puts nothing off"
        await asyncio.gather(*(health.sample(each.context) for each in workers))
        calls += 1
        assert len(world.runpod.calls_to("health", "image")) == calls
        await asyncio.gather(*(submit.submit_once(each.context) for each in workers))
        assert capacity.SETTLED < await world.value(DUE) <= capacity.SOON
    await world.cancel_all()


async def test_an_endpoint_that_does_not_answer_is_not_asked_more_often(world: World) -> None:
    """Its last answer is long ago: that is no reason to ask at every claim."""
    machine = Machines(world)
    await machine.sampled()
    await asked(world, 3)
    world.runpod.weather.order("server_error", operation="health")
    await world.pass_time(timedelta(seconds=40))
    await health.sample(world.context)
    await machine.sent()
    assert capacity.SETTLED < await world.value(DUE) <= capacity.SOON
    await world.cancel_all()


async def test_an_endpoint_with_room_for_all_is_asked_no_sooner(world: World) -> None:
    machine = Machines(world)
    await machine.sampled()
    await asked(world, 2)
    await machine.sent()
    assert await at_once(world, "image") == 2
    assert await world.value(DUE) > health.EVERY / 2
    await world.cancel_all()


async def test_a_worker_that_starts_asks_before_it_sends(world: World) -> None:
    """Nobody has worked for an hour, and a crowd waits: what was learnt before is old."""
    machine = Machines(world)
    await machine.sampled()
    await world.pass_time(timedelta(hours=1))
    machine.hear()
    await asked(world, 6)
    stopping = asyncio.Event()
    loops = asyncio.create_task(Loops(world.context).run(stopping))
    async with asyncio.timeout(20):
        while not world.runpod.jobs("image"):
            await asyncio.sleep(0.01)
    stopping.set()
    await loops
    assert await at_once(world, "image") <= 2
    await world.cancel_all()


async def test_when_a_sample_finds_more_room_it_is_used_without_a_bell(world: World) -> None:
    """A claim that left somebody waiting comes again by itself, much sooner than the loop's own two seconds."""
    machine = Machines(world, at_once=4)
    await machine.sampled()
    await asked(world, 6)
    await machine.sent()
    machine.take()
    again = world.context.router.again()
    assert again is not None
    assert again < timedelta(milliseconds=500)
    await machine.sampled()
    assert await machine.sent() == 1
    await world.cancel_all()


async def test_types_that_share_an_endpoint_share_what_was_learnt(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    entries = [ENTRY.format(name=name, type=name, priority=0, endpoint_id="shared") for name in ENDPOINTS]
    async with open_with(database_url, redis_url, tmp_path, entries, added=["shared"]) as world:
        machines = Machines(world, "shared", count=2)
        await machines.sampled()
        crowd = await world.person(credits_granted=1000)
        for kind in ("image", "text", "video") * 3:
            await world.ask(crowd, type=kind)
        assert await machines.sent() == 3
        assert await at_once(world, "shared") == 3
        await world.cancel_all()


@pytest.mark.parametrize("workers", [1, 3])
async def test_workers_that_claim_at_once_keep_to_what_was_learnt(world: World, workers: int) -> None:
    machine = Machines(world)
    await machine.sampled()
    await asked(world, 12)
    others = [another_worker(world) for _ in range(workers)]
    for _ in range(3):
        for _ in range(2):
            await asyncio.gather(*(submit.submit_once(each.context, limit=2) for each in others))
        assert await at_once(world, "image") == 2
        machine.take()
        machine.end()
        await world.poll_now()
    await world.cancel_all()
