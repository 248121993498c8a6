"""What was ordered, as the kinds of workers read it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shared.generations import Generation, Type

_SEED_LIMIT = 2**32
MAXIMUM_INLINE_BYTES = 7 << 20
"""The largest picture that goes along: as base64 it is a third larger, and RunPod takes 10 MiB of everything."""


class TooLargeToSend(ValueError):
    """A picture that fits into no request, and a worker that takes no address."""


@dataclass(frozen=True)
class Source:
    """The picture that an order starts from; `url` is where RunPod can fetch it for a day.

    What cannot be sent along is not read: then there is no `content`.
    """

    media_type: str
    content: bytes | None
    url: str

    @cached_property
    def base64(self) -> str:
        """Its bytes as text.

        Raises:
            TooLargeToSend: they were not read.
        """
        if self.content is None:
            raise TooLargeToSend("The picture is larger than any request that RunPod takes.")
        return base64.b64encode(self.content).decode()

    @property
    def data_uri(self) -> str:
        """Its bytes as an address."""
        return f"data:{self.media_type};base64,{self.base64}"

    @property
    def address(self) -> str:
        """Its bytes as an address, or where they are when they are too many to be sent."""
        inline = self.content is not None and len(self.content) <= MAXIMUM_INLINE_BYTES
        return self.data_uri if inline else self.url


@dataclass(frozen=True, slots=True)
class Order:
    """A generation, and the picture that it starts from."""

    generation: Generation
    source: Source | None = None

    @property
    def type(self) -> Type:
        """What to make."""
        return self.generation.type

    @property
    def prompt(self) -> str:
        """In the person's words."""
        return self.generation.prompt

    @property
    def batch_size(self) -> int:
        """How many."""
        return self.generation.batch_size

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Seed, steps, width, height and seconds, as far as they were given."""
        return self.generation.parameters

    @property
    def seed(self) -> int:
        """The seed; an order from before every order had one gets the same one every time."""
        return int(self.parameters.get("seed", self.generation.id.int % _SEED_LIMIT))

    def named(self, **names: str) -> dict[str, Any]:
        """The parameters that were given, each under the name that a worker has for it: `named(steps="n_steps")`."""
        return {theirs: self.parameters[ours] for ours, theirs in names.items() if ours in self.parameters}
