"""Changes to a picture by an edit model that takes `{image, prompt, ref_images}`; one picture a call."""

from typing import Any

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order


class ImageEdit(WithInput):
    """The source as bare base64."""

    types = frozenset({Type.MODIFY})

    def remote_input(self, order: Order) -> dict[str, Any]:
        """The picture and what to do with it."""
        image = {"image": order.source.base64} if order.source else {}
        return {
            "ref_images": [],
            **self.input,
            **order.named(steps="steps"),
            "prompt": order.prompt,
            "seed": order.seed,
            **image,
        }
