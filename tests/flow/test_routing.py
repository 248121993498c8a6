"""Several endpoints, some of them ill: work goes to the well ones, waits for the others, and nobody pays for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from shared import pricing
from shared.generations import Type
from tests.flow.world import ADMIN, ENDPOINTS, PUBLIC_URL, Person, World, open_world, pictures
from worker import breaker, health, poll, submit, sweep
from worker.allowances import Allowances
from worker.routing import Router
from worker.submit import claim, send_all

ENTRY = """
[[endpoint]]
name = "{name}"
type = "{type}"
endpoint_id = "{endpoint_id}"
worker = "passthrough"
priority = {priority}
expected_cost_usd = 0.25
"""


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world with two endpoints for images: the second is asked when the first cannot be."""
    async with open_routed(database_url, redis_url, tmp_path, {"first": "", "second": ""}) as opened:
        yield opened


@asynccontextmanager
async def open_routed(
    database_url: str,
    redis_url: str,
    folder: Path,
    pictures_from: Mapping[str, str],
    *,
    priorities: tuple[int, int] = (0, 1),
    endpoint_id: str | None = None,
) -> AsyncIterator[World]:
    """A world whose worker reads its endpoints from a file: those for images have these terms besides.

    With `endpoint_id`, they are profiles of one endpoint.
    """
    entries = [
        ENTRY.format(name=name, type="image", priority=priority, endpoint_id=endpoint_id or name) + terms
        for (name, terms), priority in zip(pictures_from.items(), priorities, strict=True)
    ]
    entries += [
        ENTRY.format(name=name, type=name, priority=0, endpoint_id=name) for name in ENDPOINTS if name != "image"
    ]
    file = folder / "endpoints.toml"
    file.write_text("".join(entries))
    changes: dict[str, Any] = {f"endpoint_{name}": None for name in ENDPOINTS}
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=folder, endpoints_file=file, **changes
    ) as opened:
        for name in pictures_from:
            opened.runpod.add_endpoint(name)
        yield opened


async def breaker_of(world: World, endpoint_id: str) -> str:
    return str(await world.value("SELECT breaker FROM endpoint_states WHERE endpoint_id = $1", endpoint_id))


async def changes_of(world: World, endpoint_id: str) -> list[str]:
    """What the breaker did, oldest first."""
    async with world.context.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT to_breaker FROM endpoint_changes WHERE endpoint_id = $1 ORDER BY change_id", endpoint_id
        )
    return [row["to_breaker"] for row in rows]


async def where(world: World, generation_id: UUID) -> str:
    return str(await world.value("SELECT endpoint_id FROM generations WHERE id = $1", generation_id))


def another_worker(world: World) -> World:
    """The same world, seen by a second worker process: it remembers nothing of the first."""
    context = world.context
    router = Router(context.endpoints, context.allowances, context.shares)
    return replace(world, context=replace(context, router=router))


async def test_what_runpod_accepts_is_added_up_and_what_it_refuses_is_not(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="first")
    before = {name: expected_cost(name) for name in ("first", "second")}
    for _ in range(4):
        await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context)
    assert {name: expected_cost(name) - before[name] for name in before} == {"first": 0, "second": 1}


def expected_cost(endpoint: str) -> float:
    return REGISTRY.get_sample_value("twin_runpod_expected_cost_usd_total", {"endpoint": endpoint}) or 0


async def test_the_first_in_priority_gets_everything(world: World) -> None:
    person = await world.person()
    ids = [await world.ask(person) for _ in range(5)]
    await submit.submit_once(world.context)
    assert {await where(world, each) for each in ids} == {"first"}


async def test_a_paused_endpoint_is_passed_over_and_no_attempt_is_lost(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="first")
    ids = [await world.ask(person) for _ in range(5)]
    await submit.submit_once(world.context)
    assert await breaker_of(world, "first") == "open"
    await submit.submit_once(world.context)  # at once: they wait for nothing
    assert {await where(world, each) for each in ids} == {"second"}
    assert {await world.state(each) for each in ids} == {"submitted"}
    refused = len(world.runpod.calls_to("run", "first"))
    later = await world.submitted(person)
    assert await where(world, later) == "second"
    assert len(world.runpod.calls_to("run", "first")) == refused, "an open endpoint is left alone"
    sent = "SELECT count(*) FROM generation_attempts WHERE outcome IN ('calling', 'accepted', 'unknown')"
    assert await world.value(sent) == 6, "one for each: what did not happen is not counted against anybody"
    assert await changes_of(world, "first") == ["open"]


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


async def test_429_closes_the_door_until_it_says_and_is_no_failure(world: World) -> None:
    person = await world.person()
    world.runpod.weather.order("rate_limited", endpoint="first", operation="run", count=1)
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    told = "SELECT {} FROM endpoint_allowances WHERE endpoint_id = 'first' AND operation = 'run'"
    assert timedelta(seconds=1) <= await world.value(told.format("closed_until - slowed_at")) <= timedelta(seconds=2)
    assert await world.value(told.format("pace")) == 0.5
    await longer_closed(world)
    await submit.submit_once(world.context)
    assert await where(world, generation_id) == "second", "meanwhile the other one is asked"
    assert (await breaker_of(world, "first"), await changes_of(world, "first")) == ("closed", [])
    await world.pass_time(timedelta(minutes=2))
    assert await where(world, await world.submitted(person)) == "first"


async def longer_closed(world: World) -> None:
    """RunPod asks for a minute more, so that a slow machine does not outlast it."""
    await world.execute("UPDATE endpoint_allowances SET closed_until = closed_until + interval '1 minute'")


async def test_who_wants_a_closed_endpoint_waits_for_it_and_holds_up_nobody(world: World) -> None:
    async with world.context.pool.acquire() as connection:
        await pricing.add(
            connection,
            key=uuid4().hex,
            endpoint="second",
            generation_type=Type.IMAGE,
            unit_credits=8,
            actor="owner",
        )
    person = await world.person()
    world.runpod.weather.order("paused", endpoint="second")
    wanting = [await world.ask(person, endpoint="second") for _ in range(3)]
    await submit.submit_once(world.context)
    assert await breaker_of(world, "second") == "open"
    others = [await world.ask(person) for _ in range(3)]
    await submit.submit_once(world.context, limit=3)
    assert {await where(world, each) for each in others} == {"first"}
    assert {await world.state(each) for each in wanting} == {"reserved"}
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=1))
    for _ in range(2):
        await submit.submit_once(world.context)
    assert {await where(world, each) for each in wanting} == {"second"}
    assert {await world.state(each) for each in wanting} == {"submitted"}


async def test_an_exhausted_endpoint_keeps_no_other_one_from_being_asked(world: World) -> None:
    person = await world.person()
    first = await world.submitted(person)
    text = await world.submitted(person, type="text")
    await world.execute(
        "UPDATE endpoint_allowances SET closed_until = now() + interval '1 hour' WHERE endpoint_id = 'first'"
    )
    await world.poll_now()
    assert not world.runpod.calls_to("status", "first"), "nothing is leased that cannot be asked"
    assert await world.value("SELECT lease_token IS NULL FROM generations WHERE id = $1", first)
    assert len(world.runpod.calls_to("status", "text")) == 1
    assert await world.state(text) == "submitted"


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


async def test_what_endpoints_say_of_themselves_is_asked_by_one_worker_at_a_time(world: World) -> None:
    workers = [another_worker(world) for _ in range(5)]
    answered = await asyncio.gather(*(health.sample(each.context) for each in workers))
    assert sum(answered) == 5, "every endpoint once"
    assert await health.sample(world.context) == 0, "not before the interval is over"
    assert await world.value("SELECT health->'workers'->'idle' FROM endpoint_states WHERE endpoint_id = 'first'") == 0
    before = await world.value("SELECT sampled_at FROM endpoint_states WHERE endpoint_id = 'first'")
    world.runpod.weather.order("server_error", operation="health")
    await world.pass_time(health.EVERY)
    assert await health.sample(world.context) == 0
    kept = await world.value("SELECT sampled_at FROM endpoint_states WHERE endpoint_id = 'first'")
    assert kept == before, "the last answer stays, with its time"
    assert await poll.poll_once(world.context) == 0


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


async def told_to_ops(world: World, admin: Person) -> list[dict[str, Any]]:
    token, _ = world.issuer.token(admin.user_id, authorized_party=PUBLIC_URL, role="admin")
    reply = await admin.http.get("/ops/queue", headers={"authorization": f"Bearer {token}"})
    assert reply.status_code == 200, reply.text
    return [each for each in reply.json()["endpoints"] if each["type"] == "image"]


async def samples(world: World) -> dict[tuple[str, str, str], float]:
    person = await world.person()
    text = (await person.http.get("/metrics")).text
    return {
        (sample.name, sample.labels["endpoint"], sample.labels["state"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if {"endpoint", "state"} == set(sample.labels)
    }


async def test_who_is_asked_too_much_is_left_alone_and_the_bucket_is_shared(world: World) -> None:
    """Two workers, an allowance of ten in ten seconds: together they stay within what has run into the bucket."""
    allowances = Allowances({**world.context.settings.allowances(), "run": 10})
    contexts = [
        replace(world.context, router=Router(world.context.endpoints, allowances, world.context.shares))
        for _ in range(2)
    ]
    person = await world.person()
    began = time.monotonic()
    for _ in range(12):
        await world.ask(person, type="text")
    while time.monotonic() < began + 2:
        await asyncio.gather(*(submit.submit_once(context) for context in contexts))
    sent = len(world.runpod.calls_to("run", "text"))
    assert 1 <= sent <= 2 + 0.96 * (time.monotonic() - began)
    assert await world.value("SELECT count(*) FROM generations WHERE state = 'reserved'") == 12 - sent


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


async def test_a_429_to_the_cancel_of_an_orphan_slows_the_cancels(world: World) -> None:
    person = await world.person()
    await world.submitted(person)
    await world.execute("UPDATE generation_attempts SET orphaned_at = now()")
    world.runpod.weather.order("rate_limited", operation="cancel", seconds=60)
    assert await sweep.cancel_orphans(world.context) == 0
    await world.execute("UPDATE generation_attempts SET orphan_due_at = now()")
    world.runpod.weather.clear()
    assert await sweep.cancel_orphans(world.context) == 0
    assert len(world.runpod.calls_to("cancel", "first")) == 1, "not again before it says"
    await world.pass_time(timedelta(minutes=2))
    assert await sweep.cancel_orphans(world.context) == 1
    await world.execute("UPDATE generation_attempts SET orphaned_at = NULL, orphan_cancelled_at = NULL")
    await world.cancel_all()


async def test_of_many_429s_the_longest_wait_counts(world: World) -> None:
    """One poll of a batch is told to wait a minute, and the next to wait a moment."""
    person = await world.person()
    for _ in range(4):
        await world.submitted(person)
    world.runpod.weather.order("rate_limited", operation="status", seconds=60, count=1)
    world.runpod.weather.order("rate_limited", operation="status")
    await world.poll_now()
    closed = "SELECT closed_until - now() FROM endpoint_allowances WHERE (endpoint_id, operation) = ('first', 'status')"
    assert await world.value(closed) > timedelta(seconds=50)
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=2))
    await world.settle_all()


async def test_a_429_to_a_poll_slows_the_polls_and_nothing_else(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.weather.order("rate_limited", operation="status")
    await world.poll_now()
    await longer_closed(world)
    await world.poll_now()
    assert len(world.runpod.calls_to("status", "first")) == 1, "not again before it says"
    assert await where(world, await world.submitted(person)) == "first"
    world.runpod.weather.clear()
    await world.pass_time(timedelta(minutes=2))
    await world.poll_now()
    assert len(world.runpod.calls_to("status", "first")) >= 2
    assert await world.state(generation_id) == "submitted"


async def test_an_endpoint_has_no_more_jobs_at_once_than_its_profile_says(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"first": "max_concurrency = 2\n", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        person = await world.person()
        ids = [await world.ask(person) for _ in range(5)]
        await submit.submit_once(world.context)
        assert sorted([await where(world, each) for each in ids]) == ["first"] * 2 + ["second"] * 3
        world.work_off("first", pictures(1))
        await world.poll_now()
        assert await where(world, await world.submitted(person)) == "first"


async def test_endpoints_of_one_priority_share_by_weight(database_url: str, redis_url: str, tmp_path: Path) -> None:
    terms = {"first": "weight = 1\n", "second": "weight = 4\n"}
    async with open_routed(database_url, redis_url, tmp_path, terms, priorities=(0, 0)) as world:
        person = await world.person(credits_granted=1000)
        await world.ask(person)
        router, drawn = world.context.router, []
        async with world.context.pool.acquire() as connection:
            for _ in range(60):
                deal = await router.places(connection, 1, token=uuid4(), lease=timedelta(seconds=30))
                drawn += [place.name for place in deal.draws]
                await router.settle(connection, deal, [])
        assert len(drawn) == 60, "what was not used came back"
        assert drawn.count("second") > drawn.count("first") > 0
        await world.settle_all()


async def test_profiles_of_one_endpoint_keep_to_the_lowest_of_their_limits(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"one": "max_concurrency = 1\n", "other": ""}
    priorities = (1, 0)
    async with open_routed(
        database_url, redis_url, tmp_path, terms, priorities=priorities, endpoint_id="first"
    ) as world:
        world.runpod.add_endpoint("first")
        person = await world.person()
        for _ in range(5):
            await world.ask(person)
        await submit.submit_once(world.context)
        assert await at_once(world, "first") == 1
        await world.work_off_all("first")


async def at_once(world: World, endpoint_id: str) -> int:
    """How many jobs an endpoint has of us."""
    jobs = "SELECT count(*) FROM generations WHERE endpoint_id = $1 AND state IN ('submitting', 'submitted', 'running')"
    return int(await world.value(jobs, endpoint_id))


async def test_two_workers_that_claim_at_once_keep_to_a_profiles_limit(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    terms = {"first": "max_concurrency = 3\n", "second": ""}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        workers = [another_worker(world) for _ in range(4)]
        person = await world.person(credits_granted=1000)
        for _ in range(5):
            for _ in range(8):
                await world.ask(person)
            await asyncio.gather(*(submit.submit_once(each.context, limit=2) for each in workers))
            assert 1 <= await at_once(world, "first") <= 3
            for endpoint in ("first", "second"):
                await world.work_off_all(endpoint)


async def test_what_waits_for_a_paused_endpoint_takes_no_slot_of_another_type(world: World) -> None:
    """Pictures wait for endpoints that are shut, texts for nothing: all the slots are the texts'."""
    person = await world.person(credits_granted=1000)
    world.runpod.weather.order("paused")
    for _ in range(40):
        await world.ask(person)
    for _ in range(2):
        await submit.submit_once(world.context, limit=1)  # the breakers open
    world.runpod.weather.clear()
    for _ in range(40):
        await world.ask(person, type="text")
    assert await submit.submit_once(world.context, limit=25) == 25
    assert len(world.runpod.calls_to("run", "text")) == 25
    await world.cancel_all()


async def test_what_one_type_has_no_tokens_for_another_one_gets(world: World) -> None:
    """And the loop comes again soon: it is not that nothing waits."""
    person = await world.person(credits_granted=1000)
    await submit.submit_once(world.context)
    for _ in range(30):
        await world.ask(person)
        await world.ask(person, type="text")
    await world.execute("UPDATE endpoint_allowances SET tokens = 2, refilled_at = now() + interval '5 seconds'")
    await world.execute("UPDATE endpoint_allowances SET tokens = 24 WHERE endpoint_id = 'text'")
    assert await submit.submit_once(world.context, limit=26) == 26
    assert len(world.runpod.calls_to("run", "text")) == 22
    assert await submit.submit_once(world.context, limit=26) == 2, "the tokens that were left"
    assert world.context.router.again() is not None
    await world.cancel_all()


async def test_a_worker_that_has_its_share_under_way_comes_again_soon(world: World) -> None:
    person = await world.person(credits_granted=1000)
    await world.ask(person)
    async with AsyncExitStack() as calls:
        for endpoint_id in ("first", "second"):
            for _ in range(world.context.shares.limit("run")):
                assert await calls.enter_async_context(world.context.shares.one(endpoint_id, "run"))
        assert await submit.submit_once(world.context) == 0
        assert world.context.router.again() is not None
    assert await submit.submit_once(world.context) == 1
    assert world.context.router.again() is None
    await world.cancel_all()


async def test_types_share_the_slots(world: World) -> None:
    """A long line of one holds up no other, and no slot is kept for a type that has nothing."""
    crowd, single = await world.person(credits_granted=1000), await world.person()
    for _ in range(20):
        await world.ask(crowd)
    text = await world.ask(single, type="text")
    assert await submit.submit_once(world.context, limit=4) == 4
    assert await world.state(text) == "submitted"
    another = await world.ask(single, type="text")
    for _ in range(15):  # chance decides who has the only slot
        await submit.submit_once(world.context, limit=1)
    assert await world.state(another) == "submitted"
    await world.cancel_all()


async def test_who_names_the_overflow_delays_nobody_who_goes_anywhere(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The first takes one at a time. A crowd goes anywhere, another names the second: a newcomer waits for neither."""
    async with open_routed(
        database_url, redis_url, tmp_path, {"first": "max_concurrency = 1\n", "second": ""}
    ) as world:
        crowd, quick = await world.person(credits_granted=1000), await world.person(credits_granted=1000)
        for _ in range(20):
            await world.ask(crowd)
            await world.ask(quick)
        await world.execute("UPDATE generations SET wanted_endpoint = 'second' WHERE user_id = $1", quick.user_id)
        for _ in range(5):
            await submit.submit_once(world.context, limit=2)
        single = await world.ask(await world.person())
        await submit.submit_once(world.context, limit=2)
        assert await world.state(single) == "submitted"
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
