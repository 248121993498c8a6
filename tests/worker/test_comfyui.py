"""A ComfyUI workflow is filled in: the template's places, and nothing of the person's but as values."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.generations import Type
from tests.worker.orders import ID, SOURCE, URI, order
from worker.kinds.comfyui import Comfyui
from worker.kinds.order import Order


def comfyui(folder: Path, workflow: dict[str, Any], generation_type: Type, **options: Any) -> Comfyui:
    (folder / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    told = {"workflow": "workflow.json", **options}
    return Comfyui.model_validate(told, context={"folder": folder, "type": generation_type})


def node(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "Any", "inputs": inputs}}


def test_a_workflow_is_filled_in(tmp_path: Path) -> None:
    template = node(
        text="masterpiece, {{prompt}}, detailed",
        sampler=["2", 0],
        seed="{{seed}}",
        size=["{{ width }}", {"height": "{{height}}"}],
        count="{{batch_size}}",
        steps="{{steps}}",
        cfg=7.5,
    )
    kind = comfyui(tmp_path, template, Type.IMAGE, width=640, steps=4)
    assert kind.remote_input(order(Type.IMAGE, batch_size=2, seed=7, height=768)) == {
        "workflow": node(
            text="masterpiece, a kite, detailed",
            sampler=["2", 0],
            seed=7,
            size=[640, {"height": 768}],
            count=2,
            steps=4,
            cfg=7.5,
        )
    }
    again = kind.remote_input(order(Type.IMAGE, seed=8, height=768))
    assert again["workflow"]["1"]["inputs"]["seed"] == 8, "the template is left as it was"


def test_braces_in_a_prompt_are_only_braces(tmp_path: Path) -> None:
    kind = comfyui(tmp_path, node(a="{{prompt}} {{seed}} {{width}} {{height}}", b="{{prompt}}"), Type.IMAGE)
    prompt = r"{{seed}} \1 {{image}}"
    cunning = Order(replace(order(Type.IMAGE, seed=7).generation, prompt=prompt))
    inputs = kind.remote_input(cunning)["workflow"]["1"]["inputs"]
    assert inputs == {"a": f"{prompt} 7 1024 1024", "b": prompt}


def test_a_source_goes_beside_its_workflow(tmp_path: Path) -> None:
    kind = comfyui(tmp_path, node(text="{{prompt}}", seed="{{seed}}", image="{{image}}"), Type.MODIFY)
    assert kind.remote_input(order(Type.MODIFY, source=SOURCE, seed=7)) == {
        "workflow": node(text="a kite", seed=7, image=f"{ID}.jpeg"),
        "images": [{"name": f"{ID}.jpeg", "image": URI}],
    }


def test_a_clip_has_frames(tmp_path: Path) -> None:
    template = node(text="{{prompt}}", x="{{seed}} {{width}} {{height}}", length="{{frames}}", seconds="{{seconds}}")
    kind = comfyui(tmp_path, template, Type.VIDEO, frames_per_second=24)
    inputs = kind.remote_input(order(Type.VIDEO, seed=7, seconds=2))["workflow"]["1"]["inputs"]
    assert (inputs["length"], inputs["seconds"]) == (49, 2)
    assert kind.remote_input(order(Type.VIDEO, seed=7))["workflow"]["1"]["inputs"]["length"] == 121
