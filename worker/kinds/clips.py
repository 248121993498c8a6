"""Clips: worker-mochi, and generate_video, which is Wan 2.2 in ComfyUI. One clip a call; seconds become frames."""

from typing import Annotated, Any

from pydantic import Field

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order

_Pixels = Annotated[int, Field(ge=64)]
_Frames = Annotated[int, Field(ge=1)]


class Mochi(WithInput):
    """From words alone. `{result: "FAILED: …"}` in COMPLETED is its way to fail; the clip is at an address."""

    types = frozenset({Type.VIDEO})

    frames_per_second: _Frames = 24

    def remote_input(self, order: Order) -> dict[str, Any]:
        """Under its own name for the prompt."""
        seconds = order.parameters.get("seconds")
        length = {"num_frames": seconds * self.frames_per_second + 1} if seconds is not None else {}
        return {
            **self.input,
            **order.named(steps="steps", width="width", height="height"),
            **length,
            "positive_prompt": order.prompt,
            "seed": order.seed,
        }


class GenerateVideo(WithInput):
    """A picture set in motion: the order's, or the one at `image_path` in the worker.

    Its older versions have no defaults for size, cfg and seed: all are always sent.
    """

    types = frozenset({Type.VIDEO})

    image_path: Annotated[str, Field(min_length=1)]
    width: _Pixels = 480
    height: _Pixels = 832
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    seconds: Annotated[int, Field(ge=1)] = 5
    frames_per_second: _Frames = 16

    def remote_input(self, order: Order) -> dict[str, Any]:
        """The start, and what is to happen."""
        start = {"image_base64": order.source.base64} if order.source else {"image_path": self.image_path}
        usual = {"width": self.width, "height": self.height, "cfg": self.cfg}
        seconds = order.parameters.get("seconds", self.seconds)
        return {
            **self.input,
            **usual,
            **order.named(steps="steps", width="width", height="height"),
            "length": seconds * self.frames_per_second + 1,
            "prompt": order.prompt,
            "seed": order.seed,
            **start,
        }
