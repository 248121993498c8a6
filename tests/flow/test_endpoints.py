"""An order may name its endpoint and say how much work it is: it goes there and nowhere else, with what was asked."""

from typing import Any
from uuid import uuid4

import pytest

from shared import pricing
from shared.costs import Surcharge
from shared.generations import Type
from tests.flow.world import World, pictures

STEPS = Surcharge(parameter="steps", included=20, step=10, credits=1)


async def put_on_the_menu(world: World, endpoint: str, **terms: Any) -> None:
    """The owner gives an endpoint for images a price of its own: 8 credits."""
    fields: dict[str, Any] = {"generation_type": Type.IMAGE, "unit_credits": 8, "actor": "owner", **terms}
    async with world.context.pool.acquire() as connection:
        await pricing.add(connection, key=uuid4().hex, endpoint=endpoint, **fields)


def asked_of(world: World, endpoint_id: str) -> dict[str, Any]:
    """What the endpoint's next job is to work on."""
    job = world.runpod.take(endpoint_id)
    assert job is not None
    return dict(job.input)


async def test_it_goes_to_the_endpoint_that_was_asked_for(world: World) -> None:
    await put_on_the_menu(world, "image")
    person = await world.person()
    generation_id = await world.finishing(person, pictures(1), endpoint="image")
    await world.settle_all()
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["endpoint"], reply["cost"]["charged"]) == ("completed", "image", 8)
    assert await world.credits_of(person) == (92, 0)


async def test_it_goes_nowhere_else(world: World) -> None:
    """On the menu, but this worker has another endpoint for images: nothing is sent, everything comes back."""
    await put_on_the_menu(world, "elsewhere")
    person = await world.person()
    generation_id = await world.ask(person, endpoint="elsewhere")
    assert await world.credits_of(person) == (92, 8)
    await world.settle_all()
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["error"]["code"]) == ("failed", "endpoint-unknown")
    assert reply["cost"] == reply["cost"] | {"quoted": 8, "charged": 0, "refunded": 8, "held": 0}
    assert await world.credits_of(person) == (100, 0)
    assert world.runpod.take("image") is None, "another endpoint was asked instead"
    assert await world.path(generation_id) == ["reserved", "submitting", "failed"]


async def test_the_others_are_not_held_up_by_it(world: World) -> None:
    await put_on_the_menu(world, "elsewhere")
    person = await world.person()
    await world.ask(person, endpoint="elsewhere")
    generation_id = await world.submitted(person)
    assert await world.state(generation_id) == "submitted"


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("image", {"steps": 40, "width": 512, "height": 640, "seed": 1}),
        ("video", {"steps": 7, "seconds": 12, "seed": 1}),
        ("text", {"seed": 1}),
    ],
)
async def test_what_was_paid_for_is_what_the_model_is_asked(
    world: World, kind: str, parameters: dict[str, int]
) -> None:
    person = await world.person()
    await world.submitted(person, type=kind, prompt="a kite", parameters=parameters, batch_size=2)
    assert asked_of(world, kind) == {"prompt": "a kite", "batch_size": 2, **parameters}


async def test_a_part_of_a_refined_batch_is_charged_for_its_part(world: World) -> None:
    async with world.context.pool.acquire() as connection:
        await pricing.add(
            connection, key="dearer", generation_type=Type.IMAGE, unit_credits=5, surcharges=[STEPS], actor="owner"
        )
    person = await world.person()
    generation_id = await world.finishing(person, pictures(2), batch_size=3, parameters={"steps": 50})
    # The owner changes everything meanwhile; the hold has its own arithmetic.
    async with world.context.pool.acquire() as connection:
        await pricing.add(connection, key="free", generation_type=Type.IMAGE, unit_credits=0, actor="owner")
    await world.settle_all()
    assert await world.charged(generation_id) == 2 * (5 + 3)
    assert await world.credits_of(person) == (100 - 16, 0)
