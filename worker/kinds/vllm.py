"""Text from worker-vllm: the one that passes OpenAI requests on (2.25 and newer), and the ones before."""

from typing import Annotated, Any

from pydantic import Field

from shared.generations import Type
from worker.kinds.kind import WithInput
from worker.kinds.order import Order

CHAT_ROUTE = "/v1/chat/completions"


class _Chat(WithInput):
    """What both have: a chat of one question. `input` goes to the sampling: temperature, top_p, stop and so on."""

    types = frozenset({Type.TEXT})

    streams: bool = False
    system_prompt: str | None = None
    # vLLM's own default of 16 would cut every answer short.
    max_tokens: Annotated[int, Field(ge=1)] = 1024

    @property
    def streaming(self) -> bool:
        """Asked for by `stream`."""
        return self.streams

    def asks_for_stream(self, order: Order) -> bool:
        """Several answers at once are not told piece by piece: nobody could follow them."""
        return self.streams and order.batch_size == 1

    def messages(self, order: Order) -> list[dict[str, str]]:
        """The question, under the system prompt if there is one."""
        asked = [{"role": "user", "content": order.prompt}]
        return asked if self.system_prompt is None else [{"role": "system", "content": self.system_prompt}, *asked]

    def sampling(self, order: Order) -> dict[str, Any]:
        """How to answer, and `n` answers for a batch."""
        return {"max_tokens": self.max_tokens, **self.input, "n": order.batch_size, "seed": order.seed}


class Vllm(_Chat):
    """worker-vllm 2.25 and newer: an OpenAI route and its body. `model` is the name that the worker serves it under."""

    model: Annotated[str, Field(min_length=1)]

    def remote_input(self, order: Order) -> dict[str, Any]:
        """A chat completion."""
        body = {"model": self.model, "messages": self.messages(order), "stream": self.asks_for_stream(order)}
        return {"openai_route": CHAT_ROUTE, "openai_input": {**self.sampling(order), **body}}


class VllmLegacy(_Chat):
    """worker-vllm before 2.25: messages and sampling parameters of its own; answers are lists of tokens."""

    def remote_input(self, order: Order) -> dict[str, Any]:
        """Messages and how to answer them."""
        return {
            "messages": self.messages(order),
            "sampling_params": self.sampling(order),
            "stream": self.asks_for_stream(order),
        }
