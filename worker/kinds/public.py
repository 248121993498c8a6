"""RunPod's public endpoints: text, pictures, edits and clips, one item a call."""

from typing import Any, Literal

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order


class Public(WithInput):
    """Models differ in two names: how the size is written, and whether they take one `image` or a list of `images`."""

    size: Literal["width-height", "size"] = "width-height"
    source: Literal["image", "images"] = "image"

    @property
    def largest_source_bytes(self) -> None:
        """These models fetch what is too large to be sent."""
        return None

    def remote_input(self, order: Order) -> dict[str, Any]:
        """What the documentation of these models names; the text models have no seed."""
        common = {**self.input, "prompt": order.prompt}
        if order.type is Type.TEXT:
            return common
        return {
            **common,
            **order.named(steps="num_inference_steps", seconds="duration"),
            **self._size(order),
            **self._source(order),
            "seed": order.seed,
        }

    def _size(self, order: Order) -> dict[str, Any]:
        sides = order.named(width="width", height="height")
        if self.size == "width-height":
            return sides
        return {"size": "{width}*{height}".format_map(sides)} if len(sides) == 2 else {}

    def _source(self, order: Order) -> dict[str, Any]:
        if order.source is None:
            return {}
        return {"image": order.source.address} if self.source == "image" else {"images": [order.source.address]}
