"""Moments that were made to break us: words that come late, twice, or for the attempt that we gave up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from shared import generations, sql
from shared.webhooks import webhook_token, webhook_url
from tests.flow.slow_call import sending
from tests.flow.test_gaps import died_after_the_call, given_up
from tests.flow.world import World, pictures
from worker import poll, pursuit, submit, sweep, transitions
from worker.kinds.order import Order
from worker.remote import RemoteJob
from worker.runpod import RunPod, open_http


async def second_attempt_claimed(world: World, person: Any) -> Any:
    """RunPod has a first attempt that we gave up; the call for the second is about to be made."""
    generation_id = await given_up(world, person)
    (claimed,) = await submit.claim(world.context, 10)
    return generation_id, claimed


async def test_the_failure_of_the_first_attempt_does_not_hijack_the_second(world: World) -> None:
    person = await world.person()
    generation_id, claimed = await second_attempt_claimed(world, person)
    (first,) = world.runpod.jobs("image")
    world.runpod.take("image")
    world.runpod.fail(first.id, "out of memory")
    await world.runpod.deliver_webhooks()
    await sweep.sweep_once(world.context)
    await submit.send(world.context, claimed)
    assert await world.state(generation_id) == "submitted"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_the_success_of_the_first_attempt_stands_and_the_second_is_cancelled(world: World) -> None:
    person = await world.person()
    generation_id, claimed = await second_attempt_claimed(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await sweep.sweep_once(world.context)
    await submit.send(world.context, claimed)
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert [job.state.value for job in world.runpod.jobs("image")] == ["COMPLETED", "CANCELLED"]


async def test_no_attempt_is_bought_while_an_earlier_one_is_known_to_have_completed(world: World) -> None:
    person = await world.person()
    generation_id, claimed = await second_attempt_claimed(world, person)
    world.runpod.weather.order("rate_limited", operation="run", count=1)
    await submit.send(world.context, claimed)
    assert await world.state(generation_id) == "reserved"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert len(world.runpod.jobs("image")) == 1


async def test_an_answer_that_came_after_the_lease_is_kept(world: World) -> None:
    """The submit was slow, not dead: its job is adopted by its id, and no second one is bought."""
    person = await world.person()
    generation_id = await world.ask(person)
    (claimed,) = await submit.claim(world.context, 10)
    async with sending(world, claimed):
        await world.pass_time(world.context.settings.lease)
        await sweep.sweep_once(world.context)
    await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "submitted"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert len(world.runpod.jobs("image")) == 1


async def test_an_answer_that_came_after_the_next_attempt_was_sent_is_an_orphans(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    (slow,) = await submit.claim(world.context, 10)
    async with sending(world, slow):
        for duration in (world.context.settings.lease, world.context.settings.submit_grace):
            await world.pass_time(duration)
            await sweep.sweep_once(world.context)
        await submit.submit_once(world.context)
        assert await world.state(generation_id) == "submitted"
    await sweep.cancel_orphans(world.context)
    assert [job.state.value for job in world.runpod.jobs("image")] == ["CANCELLED", "IN_QUEUE"]
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_the_attempt_that_was_delivered_is_no_orphan_when_its_submit_is_recorded_last(world: World) -> None:
    person = await world.person()
    generation_id = await world.ask(person)
    (claimed,) = await submit.claim(world.context, 10)
    url = webhook_url(world.context.webhook_signer, "http://twin.localhost", generation_id, attempt=1)
    body = {"input": world.context.endpoints.pursued(claimed).kind.remote_input(Order(claimed)), "webhook": url}
    accepted = await world.context.runpod.run("image", body)
    assert isinstance(accepted, RemoteJob)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    async with world.context.pool.acquire() as connection, connection.transaction():
        await pursuit.hear_late(connection, claimed, remote_id=accepted.id)
    await sweep.cancel_orphans(world.context)
    assert not world.runpod.calls_to("cancel")
    assert await world.value("SELECT orphaned_at FROM generation_attempts") is None


async def test_asking_again_and_again_to_cancel_does_not_hold_up_the_cancel(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    (claimed,) = await poll.claim(world.context, 10)
    await person.http.post(f"/v1/generations/{generation_id}/cancel")
    await poll.ask_all(world.context, [claimed])
    assert await world.state(generation_id) == "cancelled"


async def test_only_what_may_have_cost_something_is_an_orphan(world: World) -> None:
    """The first attempt was turned away, the second is heard of by webhook: nothing was lost at RunPod."""
    person = await world.person()
    world.runpod.weather.order("paused")
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    world.runpod.weather.clear()
    world.runpod.weather.order("dropped_after_accepting", operation="run", count=1)
    await world.pass_time(timedelta(minutes=1))
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert await world.attempts(generation_id) == ["not_sent", "accepted"]
    assert "adopted" in await world.reasons(generation_id)
    assert await world.value("SELECT count(*) FROM generation_attempts WHERE orphaned_at IS NOT NULL") == 0


async def test_orphans_that_nothing_can_be_done_for_are_not_read(world: World) -> None:
    """RunPod never told their ids, so they stay: ten thousand of them cost a look for others nothing."""
    person = await world.person()
    generation_id = await world.ask(person)
    await world.execute(
        "INSERT INTO generation_attempts (generation_id, attempt, endpoint, endpoint_id, started_at, orphaned_at) "
        "SELECT $1, number, 'image', 'image', now(), now() FROM generate_series(1000, 11000) AS number",
        generation_id,
    )
    await world.execute("ANALYZE generation_attempts")
    look = sql.load(sweep.__file__)["claim_orphans"]
    async with world.context.pool.acquire() as connection:
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS OFF) {look}", 20, sweep.ORPHAN_LIFETIME)
    plan = "\n".join(row[0] for row in rows)
    assert "generation_attempts_orphaned" in plan
    assert "Rows Removed" not in plan
    await world.cancel_all()


async def test_one_endpoint_in_trouble_keeps_no_orphan_of_another(world: World) -> None:
    person = await world.person(credits_granted=1000)
    for kind in ("image",) * 21 + ("text",):
        generation_id = await world.submitted(person, type=kind)
        await person.http.post(f"/v1/generations/{generation_id}/cancel")
    world.runpod.weather.order("server_error")
    await world.pass_time(timedelta(minutes=2))
    await poll.poll_once(world.context)
    world.runpod.weather.clear()
    world.runpod.weather.order("server_error", endpoint="image")
    for _ in range(3):
        await sweep.cancel_orphans(world.context)
    (job,) = world.runpod.jobs("text")
    assert job.state == "CANCELLED"
    assert len(world.runpod.calls_to("cancel", "image")) <= 21 * 2, "asked again without a pause"


@pytest.mark.parametrize("deadline", [timedelta(0), timedelta(hours=1)])
async def test_a_webhook_that_is_called_for_ever_keeps_nothing_from_its_end(world: World, deadline: timedelta) -> None:
    """Its address may have leaked: whoever reads the answer is fenced by the first word of the end, and by no other."""
    person = await world.person()
    generation_id = await world.submitted(person)
    (job,) = world.runpod.jobs("image")
    if deadline:
        await world.pass_time(deadline)
    else:
        world.work_off("image", pictures(1))
    path = f"/webhooks/runpod/{webhook_token(world.context.webhook_signer, generation_id, attempt=1)}"

    async def call() -> None:
        assert (await person.http.post(path, json={"id": job.id, "status": "COMPLETED"})).status_code == 200

    (early,) = await poll.claim(world.context, 10) if deadline else [None]
    await call()
    if early is not None:
        assert await poll.ask(world.context, early) is None, "what it read may be stale"
    (reader,) = await poll.claim(world.context, 10)
    await call()
    assert await poll.claim(world.context, 10) == [], "it is being read"
    await poll.ask(world.context, reader)
    assert await world.state(generation_id) == ("failed" if deadline else "finishing")
    await world.settle_all()


async def test_an_orphan_that_runs_on_after_its_cancel_is_cancelled_again(world: World) -> None:
    """RunPod answered, and did not say that it stopped."""
    person = await world.person()
    await world.submitted(person)
    (job,) = world.runpod.jobs("image")
    deaf = httpx.MockTransport(lambda _: httpx.Response(200, json={"id": job.id, "status": "IN_PROGRESS"}))
    async with open_http(world.context.settings, transport=deaf) as http:
        context = replace(world.context, runpod=RunPod(http))
        await world.execute("UPDATE generations SET cancel_requested_at = now(), due_at = now()")
        await poll.poll_once(context)
        assert await sweep.cancel_orphans(context) == 0
    await world.pass_time(timedelta(minutes=1))
    assert await sweep.cancel_orphans(world.context) == 1
    assert job.state == "CANCELLED"


async def test_a_webhook_that_came_before_its_silent_call_was_given_up_is_heeded_at_once(world: World) -> None:
    person = await world.person()
    generation_id = await died_after_the_call(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    async with world.context.pool.acquire() as connection:
        claimed = await generations.get(connection, generation_id)
        assert claimed is not None
        grace = world.context.settings.submit_grace
        assert await transitions.await_webhook(connection, claimed, grace=grace, detail="ReadTimeout") is not None
    assert await sweep.sweep_once(world.context) == 1, "there is nothing to wait for"
    await world.settle_all()
    assert await world.charged(generation_id) == 5
