"""A worker of your own that takes what was ordered under our names."""

from typing import Any

from worker.kinds.kind import WithInput
from worker.kinds.order import Order


class Passthrough(WithInput):
    """`prompt`, `batch_size`, the parameters as they were ordered, and `image`, a data URI, to modify."""

    streams: bool = False

    def remote_input(self, order: Order) -> dict[str, Any]:
        """Everything that the order has."""
        image = {"image": order.source.data_uri} if order.source else {}
        return {
            **self.input,
            **order.parameters,
            "prompt": order.prompt,
            "batch_size": order.batch_size,
            **image,
        }

    @property
    def streaming(self) -> bool:
        """A generator streams whether it is asked to or not; whether it is one is for the owner to say."""
        return self.streams
