"""The worker dies in every gap between two writes; another one, or the same one later, brings each story home.

A process that dies is a step that was not taken: each story starts in the state that the death left behind.
"""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared import pricing
from shared.webhooks import webhook_url
from tests.flow.world import Person, World, picture, pictures
from tests.turns import at_every_turn, cut_before
from worker import finish, poll, settle, submit, sweep
from worker.keep import keep
from worker.kinds.order import Order
from worker.outputs import read_output
from worker.remote import RemoteJob, read_job


async def died_before_the_call(world: World, person: Person) -> UUID:
    """The attempt is committed; nothing was sent."""
    generation_id = await world.ask(person)
    assert len(await submit.claim(world.context, 10)) == 1
    return generation_id


async def died_after_the_call(world: World, person: Person, **body: str) -> UUID:
    """RunPod has the job; its id never reached us."""
    generation_id = await world.ask(person, **body)
    (claimed,) = await submit.claim(world.context, 10)
    url = webhook_url(world.context.webhook_signer, "http://twin.localhost", generation_id, attempt=1)
    order = {"input": world.context.endpoints.pursued(claimed).kind.remote_input(Order(claimed)), "webhook": url}
    assert isinstance(await world.context.runpod.run(claimed.endpoint_id or "", order), RemoteJob)
    return generation_id


async def given_up(world: World, person: Person, **body: str) -> UUID:
    """As above, and no word came within lease and grace: it waits to be sent again."""
    generation_id = await died_after_the_call(world, person, **body)
    for duration in (world.context.settings.lease, world.context.settings.submit_grace):
        await world.pass_time(duration)
        await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "reserved"
    return generation_id


async def test_between_claim_and_call(world: World) -> None:
    person = await world.person()
    generation_id = await died_before_the_call(world, person)
    assert await sweep.sweep_once(world.context) == 0, "the lease may still be somebody's"
    await world.pass_time(world.context.settings.lease)
    await sweep.sweep_once(world.context)
    assert await world.attempts(generation_id) == ["unknown"]
    await world.pass_time(world.context.settings.submit_grace)
    await sweep.sweep_once(world.context)
    assert (await world.reasons(generation_id))[-1] == "submission-unknown"
    await submit.submit_once(world.context)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.attempts(generation_id) == ["unknown", "accepted"]
    assert len(world.runpod.calls_to("run")) == 1


async def test_between_call_and_record_and_the_webhook_finds_its_row(world: World) -> None:
    person = await world.person()
    generation_id = await died_after_the_call(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert "adopted" in await world.reasons(generation_id)
    assert await world.charged(generation_id) == 5
    assert await world.attempts(generation_id) == ["accepted"]
    assert len(world.runpod.calls_to("run")) == 1, "it was adopted, not sent again"


async def test_the_webhook_comes_during_the_wait_before_the_second_attempt(world: World) -> None:
    person = await world.person()
    generation_id = await given_up(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    assert await submit.submit_once(world.context) == 0, "its first attempt has ended: no second one is bought"
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert len(world.runpod.calls_to("run")) == 1


async def test_the_first_attempt_ends_after_the_second_was_sent(world: World) -> None:
    """The first terminal wins; the other is cancelled and its cost is ours."""
    person = await world.person()
    generation_id = await given_up(world, person)
    await submit.submit_once(world.context)
    first, second = world.runpod.jobs("image")
    taken = world.runpod.take("image")
    assert taken is first
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.value("SELECT attempt FROM generations WHERE id = $1", generation_id) == 1
    assert second.state == "CANCELLED"
    assert await world.credits_of(person) == (95, 0)


async def test_the_first_attempt_fails_after_the_second_was_sent(world: World) -> None:
    """A failure of the attempt we gave up is no reason to give up the other."""
    person = await world.person()
    generation_id = await given_up(world, person)
    await submit.submit_once(world.context)
    first, second = world.runpod.jobs("image")
    world.runpod.take("image")
    world.runpod.fail(first.id, "out of memory")
    await world.runpod.deliver_webhooks()
    await poll.poll_once(world.context)
    assert await world.state(generation_id) == "submitted"
    world.runpod.take("image")
    world.runpod.complete(second.id, pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_the_webhook_comes_before_the_submit_is_recorded(world: World) -> None:
    """The worker is alive and slow: its record comes after the webhook, or finds the row adopted and stops quietly."""
    person = await world.person()
    generation_id = await died_after_the_call(world, person)
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    claimed = await world.value("SELECT lease_token FROM generations WHERE id = $1", generation_id)
    assert claimed is not None, "the lease of the call under way is not taken away"
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_between_poll_and_record(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.execute("UPDATE generations SET due_at = now() WHERE id = $1", generation_id)
    (claimed,) = await poll.claim(world.context, 10)
    assert claimed.remote_id is not None
    await world.context.runpod.status("image", claimed.remote_id)
    assert await poll.poll_once(world.context) == 0
    await world.pass_time(world.context.settings.lease)
    await world.settle_all()
    assert await world.charged(generation_id) == 5


async def test_between_the_answer_and_the_copy(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    assert len(await finish.claim(world.context, 10)) == 1
    await world.pass_time(world.context.settings.lease)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5


async def test_between_the_copy_and_the_settlement(world: World) -> None:
    person = await world.person()
    both = {"images": [picture("teal"), picture("red")]}
    generation_id = await world.finishing(person, both, batch_size=2)
    (claimed,) = await finish.claim(world.context, 10)
    body = await world.value("SELECT body FROM generation_results WHERE generation_id = $1", generation_id)
    delivery = read_output(claimed.type, read_job(body).output)
    await keep(world.context, claimed, delivery.items)
    await world.pass_time(world.context.settings.lease)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 10
    stored = list((world.folder / "media").rglob("*.png"))
    assert len(stored) == 2, "copying again wrote the same objects again"


async def test_a_paused_worker_writes_nothing(world: World) -> None:
    """A zombie wakes up after its lease went to somebody else: every one of its writes is fenced."""
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1))
    (zombie,) = await finish.claim(world.context, 10)
    await world.pass_time(world.context.settings.lease)
    (owner,) = await finish.claim(world.context, 10)
    assert await settle.fail(world.context, zombie, code="late", detail="late", actor="zombie") is None
    cost = pricing.Cost.from_snapshot(await world.value("SELECT price FROM credit_holds"))
    text = [{"index": 0, "kind": "text", "media_type": "text/plain", "text": "late"}]
    assert await settle.complete(world.context, zombie, outputs=text, cost=cost, actor="zombie") is None
    assert await world.credits_of(person) == (95, 5), "no money moves without the state"
    assert await finish.finish(world.context, zombie) is None
    await finish.finish(world.context, owner)
    assert await finish.finish(world.context, zombie) is None
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)


async def test_a_paused_poller_writes_nothing(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.execute("UPDATE generations SET due_at = now()")
    (zombie,) = await poll.claim(world.context, 10)
    await world.pass_time(world.context.settings.lease)
    (owner,) = await poll.claim(world.context, 10)
    assert await poll.ask(world.context, zombie) is None
    assert await world.state(generation_id) == "submitted"
    await poll.ask(world.context, owner)
    assert await world.state(generation_id) == "finishing"
    await world.settle_all()


async def about_to_submit(world: World, person: Person) -> tuple[UUID, Coroutine[Any, Any, int]]:
    return await world.ask(person), submit.submit_once(world.context)


async def about_to_poll(world: World, person: Person) -> tuple[UUID, Coroutine[Any, Any, int]]:
    generation_id = await world.submitted(person)
    world.work_off("image", pictures(1))
    await world.execute("UPDATE generations SET due_at = now() WHERE id = $1", generation_id)
    return generation_id, poll.poll_once(world.context)


async def about_to_finish(world: World, person: Person) -> tuple[UUID, Coroutine[Any, Any, int]]:
    return await world.finishing(person, pictures(1)), finish.finish_once(world.context)


@pytest.mark.parametrize(
    ("about_to", "states"),
    [
        (about_to_submit, ["reserved", "submitting", "submitted"]),
        (about_to_poll, ["submitted", "finishing"]),
        (about_to_finish, ["finishing", "completed"]),
    ],
)
async def test_cancelled_at_every_await(
    world: World,
    about_to: Callable[[World, Person], Awaitable[tuple[UUID, Coroutine[Any, Any, int]]]],
    states: list[str],
) -> None:
    """A step is cut off in every turn of the loop, and so before, between and after all of its commits."""
    person = await world.person(credits_granted=10_000)
    seen: list[str] = []

    async def cut(turn: int) -> bool:
        before = await world.credits_of(person)
        generation_id, step = await about_to(world, person)
        cut_off = await cut_before(turn, step)
        seen.append(await world.state(generation_id))
        for _ in range(3):
            await world.pass_time(timedelta(seconds=61))
            world.work_off("image", pictures(1))
            await world.settle_all()
        assert await world.state(generation_id) == "completed", f"cut off before turn {turn}"
        assert await world.charged(generation_id) == 5
        assert await world.credits_of(person) == (before[0] - 5, before[1])
        return cut_off

    await at_every_turn(cut)
    assert list(dict.fromkeys(seen[:-1])) == states, "where it was cut off"
