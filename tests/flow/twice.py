"""One generation that RunPod has twice: what becomes of each attempt, and which one is pursued."""

from uuid import UUID

import httpx

from shared.webhooks import webhook_token
from tests.flow.test_gaps import given_up
from tests.flow.world import PUBLIC_URL, Person, World, pictures
from tests.local.runpod.jobs import Job
from worker import poll, submit

LOST = "SELECT array_agg(attempt ORDER BY attempt) FROM generation_attempts WHERE lost_at IS NOT NULL"
ORPHANS = "SELECT array_agg(attempt ORDER BY attempt) FROM generation_attempts WHERE orphaned_at IS NOT NULL"
ANSWERED = "SELECT attempt FROM generation_results WHERE generation_id = $1"
NAMED = "UPDATE generation_attempts SET outcome = 'accepted', remote_id = $1 WHERE attempt = 1"
PURSUED = "SELECT attempt FROM generations WHERE id = $1"


async def two_attempts(world: World, person: Person) -> tuple[UUID, Job, Job]:
    """RunPod has both; the first was given up, the second is pursued."""
    generation_id = await given_up(world, person)
    await submit.submit_once(world.context)
    first, second = world.runpod.jobs("image")
    return generation_id, first, second


async def the_first_ends_and_is_dropped(world: World, first: Job) -> None:
    """Its webhook says COMPLETED; RunPod has dropped it by the time that we ask."""
    assert world.runpod.take("image") is first
    world.runpod.complete(first.id, pictures(1))
    await world.runpod.deliver_webhooks()
    world.runpod.forget(first.id)


async def lost(world: World) -> None:
    """The grace that a 404 is given is over, and RunPod was asked."""
    await world.pass_time(world.context.settings.lost_grace)
    await poll.poll_once(world.context)


async def says(world: World, generation_id: UUID, attempt: int, remote_id: str, *, status: str = "COMPLETED") -> None:
    """A webhook, as RunPod sends it up to three times."""
    token = webhook_token(world.context.webhook_signer, generation_id, attempt=attempt)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(world.app), base_url=PUBLIC_URL) as http:
        reply = await http.post(f"/webhooks/runpod/{token}", json={"id": remote_id, "status": status})
        assert reply.status_code == 200, reply.text


async def is_delivered(world: World, person: Person, generation_id: UUID, *, by: int) -> None:
    """Charged once, for the result of this attempt; RunPod's answer has served."""
    assert await world.charged(generation_id) == 5
    assert await world.value(PURSUED, generation_id) == by
    assert await world.credits_of(person) == (95, 0)
    assert await world.value(ANSWERED, generation_id) is None
