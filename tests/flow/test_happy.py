"""The straight path: submit to settled, for each type; and the ends that are not failures of ours."""

import base64
from io import BytesIO

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from tests.flow.world import World, picture, pictures
from worker import finish, poll, submit

STRAIGHT = ["reserved", "submitting", "submitted", "running", "finishing", "completed"]


def animation() -> str:
    """A moving PNG."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("teal", "red")]
    buffer = BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=80)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("kind", "output", "price"),
    [
        ("text", [{"choices": [{"tokens": ["The sea ", "is calm."]}], "usage": {"input": 3, "output": 4}}], 1),
        ("image", pictures(1), 5),
        ("video", {"videos": [{"filename": "a.png", "type": "base64", "data": animation()}]}, 10),
    ],
)
async def test_a_generation_goes_from_reserved_to_completed(
    world: World, kind: str, output: object, price: int
) -> None:
    person = await world.person()
    generation_id = await world.ask(person, type=kind)
    assert await world.credits_of(person) == (100 - price, price)

    await submit.submit_once(world.context)
    job = world.runpod.take(kind)
    assert job is not None
    await world.poll_now()
    assert await world.state(generation_id) == "running"
    world.runpod.complete(job.id, output)
    await world.poll_now()
    await finish.finish_once(world.context)

    assert await world.path(generation_id) == STRAIGHT
    assert await world.charged(generation_id) == price
    assert await world.credits_of(person) == (100 - price, 0)
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert reply["cost"]["charged"] == price
    assert reply["outputs"][0]["index"] == 0
    if kind != "text":
        shown = await person.http.get(reply["outputs"][0]["url"])
        assert shown.status_code == 200
        assert shown.headers["content-type"] == "image/png"
    else:
        assert reply["outputs"][0]["text"] == "The sea is calm."


async def test_a_modify_starts_from_ones_own_image(world: World) -> None:
    person = await world.person()
    original = await world.finishing(person, pictures(1))
    await finish.finish_once(world.context)
    generation_id = await world.submitted(person, type="modify", source={"generation_id": str(original), "index": 0})
    job = world.runpod.take("modify")
    assert job is not None
    assert job.input["image"] == picture()
    world.runpod.complete(job.id, {"image": picture("red")})
    await world.poll_now()
    await finish.finish_once(world.context)
    assert await world.state(generation_id) == "completed"
    assert await world.credits_of(person) == (100 - 5 - 3, 0)


async def test_a_partial_batch_pays_for_what_came(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(3), batch_size=4)
    assert await world.credits_of(person) == (80, 20)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 15
    assert await world.credits_of(person) == (85, 0)
    assert (await world.reasons(generation_id))[-1] == "delivered-partly"


async def test_more_than_was_ordered_costs_no_more(world: World) -> None:
    person = await world.person()
    generation_id = await world.finishing(person, pictures(3), batch_size=2)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 10
    assert await world.value("SELECT jsonb_array_length(outputs) FROM generations WHERE id = $1", generation_id) == 2


async def test_a_webhook_hurries_a_job_that_is_not_due(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    assert await poll.poll_once(world.context) == 0, "its first poll is not due yet"
    world.work_off("image", pictures(1))
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.state(generation_id) == "completed"
    assert len(world.runpod.calls_to("status")) == 1, "the webhook was believed without asking, or asked about twice"


async def test_without_any_webhook_polling_brings_it_home(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    job = world.runpod.take("image")
    assert job is not None
    world.clock.advance(3)
    world.runpod.complete(job.id, pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert await world.path(generation_id) == STRAIGHT, "it ran between two looks, and that is on record too"
    assert await world.charged(generation_id) == 5


async def test_a_webhook_that_comes_twice_settles_once(world: World) -> None:
    person = await world.person()
    generation_id = await world.submitted(person)
    world.runpod.weather.order("webhook_doubled")
    world.work_off("image", pictures(1))
    attempts = await world.runpod.deliver_webhooks()
    assert len(attempts) == 2
    await world.settle_all()
    await world.runpod.deliver_webhooks()
    await world.settle_all()
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
    assert (
        await world.value("SELECT sum(deliveries) FROM webhook_receipts WHERE generation_id = $1", generation_id) == 2
    )
    assert (await world.path(generation_id)).count("completed") == 1


async def test_how_the_estimate_turned_out_is_measured_when_it_completes(world: World) -> None:
    """What ends without a result says nothing of it, nor what nothing was told of."""

    def judged() -> tuple[float, float]:
        count, total = (
            REGISTRY.get_sample_value(f"twin_estimate_error_ratio_{part}", {"endpoint": "image"}) or 0.0
            for part in ("count", "sum")
        )
        return count, total

    person, (count, total) = await world.person(), judged()
    told, untold, cancelled = [await world.submitted(person) for _ in range(3)]
    await world.execute(
        "UPDATE generations SET estimated_seconds = CASE WHEN id = $1 THEN NULL ELSE 20 END, "
        "created_at = now() - interval '30 s' WHERE user_id = $2",
        untold,
        person.user_id,
    )
    await person.http.post(f"/v1/generations/{cancelled}/cancel")
    await world.poll_now()
    await world.settle_all()
    assert await world.state(cancelled) == "cancelled"
    world.work_off("image", pictures(1))
    await world.poll_now()
    await world.settle_all()
    assert [await world.state(each) for each in (told, untold)] == ["completed"] * 2
    after, sum_after = judged()
    assert after - count == 1
    assert 1.5 <= sum_after - total < 2, "30 s instead of 20"
