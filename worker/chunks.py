"""Reading what /stream gives: a list of what a worker has yielded since the last look."""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from shared import lenient
from worker import texts
from worker.remote import RemoteState, UnreadableAnswer, read_state


@dataclass(frozen=True, slots=True)
class Drained:
    """What one look at /stream brought: nothing of it can be read again.

    `state` is None where the answer does not tell (the bare array of RunPod's documentation). `body` is a list of what
    the worker yielded, as JSON; `text` is what it says as far as it can be told from this much.
    """

    state: RemoteState | None
    text: str
    count: int
    body: bytes

    @property
    def ended(self) -> bool:
        """The job has ended, and its stream is empty."""
        return self.count == 0 and self.state is not None and self.state.terminal


def read_drained(body: bytes) -> Drained:
    """Read a 200 answer of /stream: `{"status", "stream": [{"output": …}]}`, or a bare array of the same.

    Raises:
        UnreadableAnswer: neither of the two.
    """
    try:
        data = lenient.loads(body)
    except ValueError as error:
        msg = "the body is not JSON"
        raise UnreadableAnswer(msg) from error
    state = None if isinstance(data, list) else read_state(data)
    items = data if isinstance(data, list) else data.get("stream") or []
    if not isinstance(items, list):
        msg = "the body has no list of chunks"
        raise UnreadableAnswer(msg)
    outputs = [item["output"] if isinstance(item, Mapping) and "output" in item else item for item in items]
    try:
        return Drained(state, texts.joined(outputs), len(outputs), orjson.dumps(outputs))
    except TypeError as error:
        msg = "the body is nested too deeply"
        raise UnreadableAnswer(msg) from error
