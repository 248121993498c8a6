"""What every kind of worker has: the types it makes, the input it understands, and how its output is read."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict

from shared.generations import Type
from worker.kinds.order import MAXIMUM_INLINE_BYTES, Order
from worker.outputs import Delivery, read_output


class Kind(BaseModel):
    """One kind of worker. The fields are the options that an endpoint of this kind takes in the configuration.

    A kind maps what was ordered to the worker's own input, and leaves out what the worker has no name for. Workers that
    make one item a call get what they can be told of the batch; only what is delivered is charged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    types: ClassVar[frozenset[Type]] = frozenset(Type)

    @abstractmethod
    def remote_input(self, order: Order) -> dict[str, Any]:
        """The `input` of /run: never empty, which RunPod would retry and fail (runpod.md 1.2)."""

    def read(self, generation_type: Type, output: Any) -> Delivery:
        """Read the `output` of a COMPLETED job. One lenient reader knows the shapes of all kinds (runpod.md 4)."""
        return read_output(generation_type, output)

    @property
    def largest_source_bytes(self) -> int | None:
        """The largest picture that it can be sent to modify; None: of any size, since it fetches them itself."""
        return MAXIMUM_INLINE_BYTES

    @property
    def streaming(self) -> bool:
        """Its text comes out at /stream while it is made."""
        return False


def _json(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What TOML can say and JSON cannot would fail every order, or be sent as something else."""
    try:
        sent = orjson.loads(orjson.dumps(value))
    except TypeError as error:
        raise ValueError(str(error)) from error
    if sent != value:
        msg = "holds a date, a time, nan or inf, which JSON does not have; write what the worker expects"
        raise ValueError(msg)
    return value


class WithInput(Kind):
    """A kind whose worker takes more than an order says: what `input` holds is sent with every order, under it."""

    input: Annotated[Mapping[str, Any], AfterValidator(_json)] = {}
