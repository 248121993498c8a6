"""Pictures from worker-a1111: the parameters of AUTOMATIC1111's txt2img."""

from typing import Any

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order


class A1111(WithInput):
    """The whole batch in one call. The worker knows no img2img."""

    types = frozenset({Type.IMAGE})

    def remote_input(self, order: Order) -> dict[str, Any]:
        """A txt2img request."""
        return {
            **self.input,
            **order.named(width="width", height="height", steps="steps"),
            "prompt": order.prompt,
            "seed": order.seed,
            "batch_size": order.batch_size,
        }
