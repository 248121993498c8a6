"""What an endpoint has of us now, where our count and its /health differ: ends that nobody told us of, and more."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.machines import Machines
from tests.flow.routed import at_once, open_routed
from tests.flow.test_learnt_limits import asked
from tests.flow.world import World
from worker import capacity, health, line, poll, submit
from worker.runpod import RunPod, open_http

Answer = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
OLDEST_DUE = (
    "UPDATE generations SET due_at = now() WHERE id = (SELECT id FROM generations "
    "WHERE state IN ('submitted', 'running') ORDER BY submitted_at LIMIT 1)"
)
KEEP_AS_BEFORE = "UPDATE endpoint_states SET health = $1, sampled_at = now() WHERE endpoint_id = 'image'"
"""What a worker of the release before this one writes down of an answer."""


@asynccontextmanager
async def saying(world: World, answer: Answer | dict[str, Any] | bytes) -> AsyncIterator[World]:
    """The same world, in which RunPod says this instead, whatever it is asked."""

    def say(_: httpx.Request) -> httpx.Response:
        content = {"content": answer} if isinstance(answer, bytes) else {"json": answer}
        return httpx.Response(200, **content)

    transport = httpx.MockTransport(answer if callable(answer) else say)
    async with open_http(world.context.settings, transport=transport) as http:
        yield replace(world, context=replace(world.context, runpod=RunPod(http)))


def told(running: int = 0, waiting: int = 0, /, **workers: int) -> dict[str, Any]:
    return {"jobs": {"inProgress": running, "inQueue": waiting}, "workers": workers}


async def unseen(world: World, *, learnt: bool = True) -> int:
    async with world.context.pool.acquire() as connection:
        return (await line.in_flight(connection, ["image"], learnt=["image"] if learnt else []))["image"].unseen


@pytest.mark.parametrize("together", [False, True])
async def test_when_late_webhooks_come_no_crowd_goes_out(world: World, together: bool) -> None:
    """What was believed to be there makes no room once more when we hear that it has ended."""
    machine = Machines(world)
    await machine.sampled()
    await asked(world, 30)
    for _ in range(10):
        await machine.sent()
        for _ in range(2):
            machine.take()
            machine.end()
        await machine.sampled()
    believed = await at_once(world, "image")
    assert believed > 10
    for _ in range(1 if together else believed):
        if together:
            await world.poll_now()
        else:
            await world.execute(OLDEST_DUE)
            await poll.poll_once(world.context)
        await machine.sent()
        machine.take()
        assert machine.waiting <= 1
    assert (len(machine.running), machine.waiting) == (1, 1), "the job in hand, and the one that follows"
    await machine.emptied()


async def test_answers_that_do_not_show_our_jobs_bring_one_more_each(world: World) -> None:
    """One is often between us somewhere: what is more than that is taken for ended."""
    machine = Machines(world)
    await asked(world, 8)
    async with saying(world, told(idle=1)) as lying:
        for there in (2, 3, 4, 5):
            await Machines(lying).sampled()
            await machine.sent()
            assert await at_once(world, "image") == there
    await machine.emptied()


async def test_answers_that_do_not_show_our_jobs_bring_no_more_than_none_at_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer than a hundred, so that the allowance has tokens for all of them at once."""
    monkeypatch.setattr(capacity, "UNLEARNT", 20)
    machine = Machines(world)
    await asked(world, 24)
    async with saying(world, told(idle=12)) as lying:
        for there in (15, 20, 20):
            await Machines(lying).sampled()
            await machine.sent()
            assert await at_once(world, "image") == there
    await machine.emptied()


async def test_what_was_sent_while_the_endpoint_was_asked_has_not_ended(world: World) -> None:
    """The answer was made before it came there."""
    machine = Machines(world, count=8)
    await machine.sampled()
    await asked(world, 20)

    async def answer(request: httpx.Request) -> httpx.Response:
        if "/image/" in request.url.path:
            assert await machine.sent() == 10
        return httpx.Response(200, json=told(idle=8))

    async with saying(world, answer) as slow:
        await Machines(slow, count=8).sampled()
    assert await machine.sent() == 0
    await machine.emptied()


async def test_only_what_was_learnt_lately_makes_anything_unseen(world: World) -> None:
    machine = Machines(world)
    person = await world.person()
    for _ in range(4):
        await world.submitted(person)
    assert await unseen(world) == 0, "nothing was learnt"
    async with saying(world, told(1, 1, idle=1)) as world_of_two:
        await Machines(world_of_two).sampled()
    assert await unseen(world) == 4 - 2 - 1
    assert await unseen(world, learnt=False) == 0, "somebody said a number"
    await world.pass_time(capacity.FRESH)
    assert await unseen(world) == 0
    await machine.emptied()


async def test_where_a_number_was_said_our_own_count_counts(database_url: str, redis_url: str, tmp_path: Path) -> None:
    terms = {"first": "max_concurrency = 3\n", "second": "max_concurrency = 2\n"}
    async with open_routed(database_url, redis_url, tmp_path, terms) as world:
        await asked(world, 8)
        first = Machines(world, "first")
        assert await first.sent() == 5
        async with saying(world, told(idle=1)) as lying:
            await Machines(lying, "first").sampled()
        assert await first.sent() == 0
        await world.cancel_all()


async def test_machines_that_start_have_no_jobs(world: World) -> None:
    """To pull their image may take a quarter of an hour."""
    machine = Machines(world)
    await asked(world, 10)
    async with saying(world, told(idle=1, ready=1, initializing=4)) as starting:
        await Machines(starting).sampled()
    await machine.sent()
    machine.take()
    assert machine.waiting == 1
    await machine.emptied()


async def unanswered(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("nobody knows whether it came there")


@pytest.mark.parametrize("doubt", ["unanswered", "lost"])
async def test_one_job_in_doubt_does_not_shut_an_endpoint_without_machines(world: World, doubt: str) -> None:
    none = Machines(world, count=0)
    await none.sampled()
    theirs = await world.ask(await world.person())
    if doubt == "lost":
        await none.sent()
        world.runpod.forget(world.runpod.jobs("image")[0].id)
    else:
        async with saying(world, unanswered) as silent:
            await submit.submit_once(silent.context)
    assert await world.state(theirs) == ("submitted" if doubt == "lost" else "submitting")
    await none.sampled()
    await world.ask(await world.person())
    assert await none.sent() == 1
    await world.cancel_all()


async def test_an_answer_that_an_older_worker_kept_does_not_make_fresh_what_was_learnt(world: World) -> None:
    """While a new release is rolled out; an answer says fifty, the one before it was scaled to nothing."""
    none = Machines(world, count=0)
    await none.sampled()
    await world.pass_time(timedelta(minutes=10))
    await world.execute(KEEP_AS_BEFORE, told(idle=50))
    await asked(world, 4)
    assert await none.sent() == 4
    await none.emptied()


@pytest.mark.parametrize("name", ["a\\u0000b", "\\ud800", "\u00e9t\u00e9", "", "two words", "x" * 65])
async def test_counts_with_odd_names_are_passed_over(world: World, name: str) -> None:
    """Postgres does not keep each of them; what the others say counts."""
    body = f'{{"jobs": {{"inProgress": 1, "{name}": 1, "inQueue": 0}}, "workers": {{"{name}": 1, "idle": 1}}}}'
    async with saying(world, body.encode()) as odd:
        await world.execute("UPDATE endpoint_states SET sample_due_at = now()")
        assert await health.sample(odd.context) == 4
    kept = await world.value("SELECT health FROM endpoint_states WHERE endpoint_id = 'image'")
    assert kept == {"jobs": {"inProgress": 1, "inQueue": 0}, "workers": {"idle": 1}}
    assert await world.value("SELECT learnt_limit FROM endpoint_states WHERE endpoint_id = 'image'") == 2


async def test_the_longest_name_is_a_name() -> None:
    said = {"jobs": {"x" * 64: 1}, "workers": {"in_progress2": 2}}
    assert health.counted(said) == said
