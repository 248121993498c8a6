"""What is tried again: a generation that failed, its rounds, and their holds."""

from typing import Any
from uuid import UUID

from shared.webhooks import webhook_url
from tests.flow.test_gaps import given_up
from tests.flow.world import Person, World
from worker import finish, submit, sweep
from worker.kinds.order import Order
from worker.remote import RemoteJob


async def failed(world: World, person: Person, **body: Any) -> UUID:
    """The model said that it failed: refunded."""
    generation_id = await world.submitted(person, **body)
    remote_id = await world.value("SELECT remote_id FROM generations WHERE id = $1", generation_id)
    job = next(job for job in iter(lambda: world.runpod.take("image"), None) if job.id == remote_id)
    world.runpod.fail(job.id, "out of memory")
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "failed"
    return generation_id


async def sent_and_never_heard_of(world: World, person: Person) -> UUID:
    """RunPod has both attempts, and we gave both up: refunded."""
    generation_id = await given_up(world, person)
    (claimed,) = await submit.claim(world.context, 10)
    url = webhook_url(world.context.webhook_signer, "http://twin.localhost", generation_id, attempt=claimed.attempt)
    body = {"input": world.context.endpoints.pursued(claimed).kind.remote_input(Order(claimed)), "webhook": url}
    assert isinstance(await world.context.runpod.run("image", body), RemoteJob)
    for duration in (world.context.settings.lease, world.context.settings.submit_grace):
        await world.pass_time(duration)
        await sweep.sweep_once(world.context)
    assert await world.state(generation_id) == "failed"
    assert (await world.reasons(generation_id))[-1] == "submission-unknown"
    return generation_id


async def try_again(world: World, person: Person, generation_id: UUID, **headers: str) -> Any:
    reply = await person.http.post(f"/v1/generations/{generation_id}/retry", headers=headers)
    assert reply.status_code == 202, reply.text
    return reply.json()


async def holds(world: World, generation_id: UUID) -> list[tuple[Any, ...]]:
    async with world.context.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT round, state::text, captured FROM credit_holds WHERE generation_id = $1 ORDER BY round",
            generation_id,
        )
    return [tuple(row) for row in rows]
