"""Pictures from worker-sdxl."""

from typing import Any

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order

MAXIMUM_IMAGES = 2


class Sdxl(WithInput):
    """Up to two pictures a call; with a source its refiner makes one, from an address that it fetches itself."""

    types = frozenset({Type.IMAGE, Type.MODIFY})

    @property
    def largest_source_bytes(self) -> None:
        """It fetches them."""
        return None

    def remote_input(self, order: Order) -> dict[str, Any]:
        """Steps are the base model's, or the refiner's when it works alone."""
        common = {**self.input, "prompt": order.prompt, "seed": order.seed}
        if order.source is not None:
            refined = order.named(steps="refiner_inference_steps")
            return {**common, **refined, "num_images": 1, "image_url": order.source.url}
        return {
            **common,
            **order.named(width="width", height="height", steps="num_inference_steps"),
            "num_images": min(order.batch_size, MAXIMUM_IMAGES),
        }
