"""Pictures and clips from worker-comfyui: your workflow, with what was ordered put in."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import orjson
from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from shared.generations import Type
from worker.kinds.kind import Kind
from worker.kinds.order import MAXIMUM_INLINE_BYTES, Order

MAXIMUM_WORKFLOW_BYTES = 1 << 20
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# Without its size an order would be charged for pixels that it does not get; without its seed ComfyUI, which remembers
# what it made, makes nothing the second time. Only an order to modify has a source.
_NEEDED = {
    Type.IMAGE: frozenset({"prompt", "seed", "width", "height"}),
    Type.MODIFY: frozenset({"prompt", "seed", "image"}),
    Type.VIDEO: frozenset({"prompt", "seed", "width", "height"}),
}
_OPTIONAL = frozenset({"width", "height", "steps", "batch_size", "seconds", "frames"})
_Count = Annotated[int, Field(ge=1)]


def _load(value: Any, info: ValidationInfo) -> Mapping[str, Any]:
    """Read the workflow's file, which is named relative to the configuration."""
    if not isinstance(value, str):
        msg = "must be the path of a file"
        raise ValueError(msg)
    path = Path((info.context or {})["folder"]) / value
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_WORKFLOW_BYTES + 1)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ValueError(msg) from error
    if len(content) > MAXIMUM_WORKFLOW_BYTES:
        msg = f"{path} is larger than {MAXIMUM_WORKFLOW_BYTES} bytes"
        raise ValueError(msg)
    try:
        workflow: Any = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        msg = f"{path} is not JSON: {error}"
        raise ValueError(msg) from error
    if not isinstance(workflow, dict) or not workflow or not all(map(_is_node, workflow.values())):
        msg = f"{path} is not a workflow in the API format; in ComfyUI choose Workflow, Export (API)"
        raise ValueError(msg)
    return workflow


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and "class_type" in node


class Comfyui(Kind):
    """A workflow whose texts hold `{{prompt}}`, `{{seed}}`, `{{width}}` and so on; `{{image}}` is the source's name.

    The other options are what an order gets that says nothing about them.
    """

    types = frozenset(_NEEDED)

    workflow: Annotated[Mapping[str, Any], BeforeValidator(_load)]
    width: Annotated[int, Field(ge=64)] = 1024
    height: Annotated[int, Field(ge=64)] = 1024
    steps: _Count = 20
    seconds: _Count = 5
    frames_per_second: _Count = 16

    @model_validator(mode="after")
    def _placeholders(self, info: ValidationInfo) -> Self:
        needed = _NEEDED[(info.context or {})["type"]]
        found = set(_placeholders(self.workflow))
        unknown = sorted(found - needed - _OPTIONAL)
        if unknown:
            msg = f"the workflow has {_written(unknown)}; known here are {_written(sorted(needed | _OPTIONAL))}"
            raise ValueError(msg)
        missing = sorted(needed - found)
        if missing:
            msg = f"the workflow has no {_written(missing)}"
            raise ValueError(msg)
        return self

    @property
    def largest_source_bytes(self) -> int:
        """What the workflow leaves of the room."""
        return MAXIMUM_INLINE_BYTES - len(orjson.dumps(self.workflow))

    def remote_input(self, order: Order) -> dict[str, Any]:
        """The workflow, filled in. What a person writes is put in as it is: braces in a prompt are only braces."""
        usual = {"width": self.width, "height": self.height, "steps": self.steps, "seconds": self.seconds}
        values = {
            **usual,
            **order.parameters,
            "prompt": order.prompt,
            "seed": order.seed,
            "batch_size": order.batch_size,
        }
        values["frames"] = values["seconds"] * self.frames_per_second + 1
        if order.source is None:
            return {"workflow": _filled(self.workflow, values)}
        name = f"{order.generation.id}.{order.source.media_type.removeprefix('image/')}"
        return {
            "workflow": _filled(self.workflow, {**values, "image": name}),
            "images": [{"name": name, "image": order.source.data_uri}],
        }


def _written(names: list[str]) -> str:
    return ", ".join(f"{{{{{name}}}}}" for name in names)


def _placeholders(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield from _PLACEHOLDER.findall(part)
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from _placeholders(inner)


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    """A copy with the values put in; a text that is one placeholder becomes the value itself, so numbers stay such."""
    if isinstance(part, str):
        whole = _PLACEHOLDER.fullmatch(part)
        if whole is not None:
            return values[whole[1]]
        return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), part)
    if isinstance(part, dict):
        return {key: _filled(inner, values) for key, inner in part.items()}
    return [_filled(inner, values) for inner in part] if isinstance(part, list) else part
