"""What /stream gives is read as the whole output is, in every shape, however it falls into looks."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.flow.texts import drain, shown, text_of, writing
from tests.flow.world import World
from tests.worker import test_fixtures
from worker.streams import MAXIMUM_DRAINED_BYTES

CASES = [
    (f"{path.stem}: {case['name']}", case)
    for path in sorted((Path(test_fixtures.__file__).parent / "fixtures").glob("*.json"))
    for case in orjson.loads(path.read_bytes())
    if case["type"] == "text"
]
NO_WORDS = ("error", "empty", "unreadable")


def pieces(output: Any) -> list[Any]:
    """What a generator worker yields, if this is what becomes of it."""
    return output if isinstance(output, list) else [output]


@pytest.mark.parametrize("aggregated", [True, False])
async def test_every_shape_is_read_as_it_is_read_whole(world: World, *, aggregated: bool) -> None:
    """Each piece is a look of its own: nothing tells then what comes after it."""
    person = await world.person(credits_granted=1000)
    for name, case in CASES:
        generation_id, job = await writing(world, person)
        for piece in pieces(case["output"]):
            world.runpod.stream(job.id, piece)
            await drain(world)
        world.runpod.complete(job.id, pieces(case["output"]) if aggregated else None)
        await world.settle_all()
        if any(found in case for found in NO_WORDS):
            assert await world.state(generation_id) == "failed", name
            assert await world.charged(generation_id) == 0, name
        else:
            assert await text_of(world, person, generation_id) == "".join(case["texts"]), name
            assert await world.charged(generation_id) == 1, name


@pytest.mark.parametrize(
    "said",
    [
        ["Config:\n", "data: 5\n", "end"],
        ["An event looks like this:\n", 'data: {"id": 7}\n\n', "and so on."],
        ['data: {"text": "one"}\n\n', "is an event, and ", "data: {", "} is none."],
        ["data: ", "\n", " ", "is how it begins"],
    ],
)
@pytest.mark.parametrize("aggregated", [True, False])
async def test_a_text_may_speak_of_streams(world: World, said: list[str], *, aggregated: bool) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person)
    for chunk in said:
        world.runpod.stream(job.id, chunk)
        await drain(world)
    world.runpod.complete(job.id, said if aggregated else None)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "".join(said)
    assert await world.charged(generation_id) == 1


async def test_an_event_may_fall_into_two_looks(world: World) -> None:
    """What it shows meanwhile is put right in the end."""
    person = await world.person()
    generation_id, job = await writing(world, person)
    for half in ('data: {"choices":[{"delta":{"con', 'tent":"cut"}}]}\n\ndata: [DO', "NE]\n\n"):
        world.runpod.stream(job.id, half)
        await drain(world)
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "cut"


async def test_an_error_among_the_pieces_is_the_end_of_a_text(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, 'data: {"choices":[{"delta":{"content":"so far"}}]}\n\n')
    await drain(world)
    assert await shown(world, generation_id) == "so far"
    world.runpod.stream(job.id, 'data: {"error":{"message":"out of memory"}}\n\n')
    await drain(world)
    world.runpod.complete(job.id)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "model-failed"
    assert await world.credits_of(person) == (100, 0)


async def test_what_is_kept_as_it_came_is_bounded_too(world: World) -> None:
    """A worker may say little in many bytes."""
    person = await world.person()
    generation_id, job = await writing(world, person, {"text": "one", "tokens": list(range(100))})
    await drain(world)
    assert await world.value("SELECT bytes FROM generation_streams") > 300
    await world.execute("UPDATE generation_streams SET bytes = $1", MAXIMUM_DRAINED_BYTES - 300)
    world.runpod.stream(job.id, {"text": "two", "tokens": list(range(100))})
    await drain(world)
    assert await world.value("SELECT trouble FROM generation_streams") == "oversized"
    world.runpod.complete(job.id)
    await world.settle_all()
    assert (await world.reasons(generation_id))[-1] == "unfit-output"
    assert await world.charged(generation_id) == 0


async def test_what_was_drained_goes_with_its_generation(world: World) -> None:
    person = await world.person()
    generation_id, job = await writing(world, person, "one")
    await drain(world)
    assert await world.value("SELECT count(*) FROM generation_drains") == 1
    world.runpod.complete(job.id)
    await world.settle_all()
    assert await text_of(world, person, generation_id) == "one"
    assert await world.value("SELECT count(*) FROM generation_drains") == 0, "it has served"
