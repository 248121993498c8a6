"""Endpoints with profiles of their own: each is spoken to, waited for and read on its own terms."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.generations import Type
from tests.flow.world import World, open_world, picture, pictures
from tests.local.runpod.jobs import Job
from worker import finish, submit
from worker.endpoints import Endpoints
from worker.kinds.passthrough import Passthrough
from worker.outputs import Delivery, Item

WORKFLOW = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "{{prompt}}", "clip": ["4", 1]}},
    "2": {"class_type": "Latent", "inputs": {"width": "{{width}}", "height": "{{height}}", "seed": "{{seed}}"}},
}
PROFILES = """
[[endpoint]]
name = "chat"
type = "text"
endpoint_id = "text"
worker = "vllm"
model = "m"

[[endpoint]]
name = "flux"
type = "image"
endpoint_id = "image"
worker = "comfyui"
workflow = "workflow.json"
queue_deadline_seconds = 100
run_deadline_seconds = 50

[[endpoint]]
name = "refine"
type = "modify"
endpoint_id = "modify"
worker = "sdxl"

[[endpoint]]
name = "clips"
type = "video"
endpoint_id = "video"
worker = "mochi"
"""


@pytest.fixture
async def profiled(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world whose endpoints are named in a file."""
    (tmp_path / "workflow.json").write_bytes(orjson.dumps(WORKFLOW))
    (tmp_path / "endpoints.toml").write_text(PROFILES, encoding="utf-8")
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, endpoints_file=tmp_path / "endpoints.toml"
    ) as opened:
        yield opened


def taken(world: World, endpoint_id: str) -> Job:
    """The endpoint's next job, as its worker gets it."""
    job = world.runpod.take(endpoint_id)
    assert job is not None
    return job


async def test_each_is_spoken_to_in_its_own_way(profiled: World) -> None:
    world = profiled
    person = await world.person()
    await world.submitted(person, type="text", prompt="a poem", parameters={"seed": 7})
    asked = taken(world, "text").input
    assert asked["openai_route"] == "/v1/chat/completions"
    assert asked["openai_input"]["messages"] == [{"role": "user", "content": "a poem"}]
    await world.submitted(person, prompt="a kite", parameters={"seed": 7, "width": 512})
    workflow = taken(world, "image").input["workflow"]
    assert workflow["1"]["inputs"]["text"] == "a kite"
    assert workflow["2"]["inputs"] == {"width": 512, "height": 1024, "seed": 7}
    await world.submitted(person, type="video", prompt="a kite", parameters={"seed": 7, "seconds": 2})
    assert taken(world, "video").input == {"positive_prompt": "a kite", "seed": 7, "num_frames": 49}


async def test_the_source_is_where_runpod_can_fetch_it(profiled: World) -> None:
    world = profiled
    person = await world.person()
    origin = await world.finishing(person, pictures(1))
    await world.settle_all()
    await world.submitted(person, type="modify", source={"generation_id": str(origin), "index": 0})
    fetched = await person.http.get(taken(world, "modify").input["image_url"])
    assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/png")


async def test_each_is_waited_for_on_its_own_terms(profiled: World) -> None:
    world = profiled
    person = await world.person()
    generation_id = await world.ask(person)
    await submit.submit_once(world.context)
    waits = await world.value("SELECT deadline_at - submitted_at FROM generations WHERE id = $1", generation_id)
    assert waits == timedelta(seconds=100)
    job = taken(world, "image")
    assert (job.policy.execution_timeout_ms, job.policy.ttl_ms) == (50_000, 210_000)


async def test_each_is_read_on_its_own_terms(world: World) -> None:
    """An endpoint's kind reads its answers: here one that speaks in riddles, which nobody else would understand."""

    class Riddles(Passthrough):
        def read(self, generation_type: Type, output: Any) -> Delivery:
            return Delivery((Item(text=f"{generation_type}: {output['riddle']}"),))

    spoken = [replace(profile, kind=Riddles()) for profile in world.context.endpoints]
    context = replace(world.context, endpoints=Endpoints(spoken, max_concurrency=1))
    person = await world.person()
    generation_id = await world.finishing(person, {"riddle": "What has keys but opens nothing?"}, type="text")
    await finish.finish_once(context)
    outputs = (await person.http.get(f"/v1/generations/{generation_id}")).json()["outputs"]
    assert [output["text"] for output in outputs] == ["text: What has keys but opens nothing?"]


@pytest.mark.parametrize("kind", ["text", "image", "video"])
async def test_an_answer_that_nobody_can_read_is_refunded_and_kept_for_ops(profiled: World, kind: str) -> None:
    world = profiled
    person = await world.person()
    output = {"mystery": {"made_by": "a worker that nobody told us of"}}
    generation_id = await world.finishing(person, output, type=kind)
    await finish.finish_once(world.context)
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["error"]["code"]) == ("failed", "unreadable-output")
    assert "mystery" not in str(reply), "what a worker says is for ops"
    assert await world.credits_of(person) == (100, 0)
    kept = await world.value("SELECT body FROM generation_results WHERE generation_id = $1", generation_id)
    assert orjson.loads(kept)["output"] == output


@pytest.mark.parametrize(
    ("kind", "output", "code"),
    [
        ("image", {"status": "success_no_images", "images": []}, "no-output"),
        ("image", {"error": "Job processing failed", "details": ["KSampler"]}, "model-failed"),
        ("video", {"result": "FAILED: no frames", "status": "DONE"}, "model-failed"),
        ("text", [{"error": {"message": "context too long", "code": 400}}], "model-failed"),
    ],
)
async def test_a_failure_inside_completed_is_refunded(profiled: World, kind: str, output: Any, code: str) -> None:
    world = profiled
    person = await world.person()
    generation_id = await world.finishing(person, output, type=kind)
    await finish.finish_once(world.context)
    reply = (await person.http.get(f"/v1/generations/{generation_id}")).json()
    assert (reply["status"], reply["error"]["code"]) == ("failed", code)
    assert await world.credits_of(person) == (100, 0)


async def test_a_worker_that_makes_one_a_call_is_paid_for_one(profiled: World) -> None:
    """comfyui without `{{batch_size}}`: three were ordered, one came."""
    world = profiled
    person = await world.person()
    one = {"images": [{"filename": "a.png", "type": "base64", "data": picture().split(",")[1]}], "errors": ["too few"]}
    generation_id = await world.finishing(person, one, batch_size=3)
    await finish.finish_once(world.context)
    assert await world.charged(generation_id) == 5
    assert await world.credits_of(person) == (95, 0)
