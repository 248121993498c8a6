"""Reading what /stream gives: chunks of a text in every shape that runpod.md 4 knows, whitespace and all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared import lenient
from worker.remote import RemoteState, UnreadableAnswer, read_state

_TEXT_VALUES = ("text", "content", "generated_text", "token", "response", "output", "result")
_SSE = "data:"
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Drained:
    """What one look at /stream brought: nothing of it can be read again.

    `state` is None where the answer does not tell (the bare array of RunPod's documentation). `error`: a chunk says
    that the model failed.
    """

    state: RemoteState | None
    text: str
    count: int
    error: bool

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
    return Drained(
        state=state,
        text=text_of(outputs),
        count=len(outputs),
        error=any(isinstance(output, Mapping) and bool(output.get("error")) for output in outputs),
    )


def text_of(output: Any) -> str:
    """The text in a chunk, or in a list of chunks, joined. What carries none gives none."""
    return _text_of(output, _DEEPEST).replace("\0", "")  # NUL is a character that Postgres keeps nowhere


def _text_of(output: Any, depth: int) -> str:
    text = ""
    if depth == 0:
        pass
    elif isinstance(output, str):
        text = _sse_text(output, depth) if output.startswith(_SSE) else output
    elif isinstance(output, list):
        lines = [part for part in output if isinstance(part, str)]
        if any(line.startswith(_SSE) for line in lines):
            text = _sse_text("".join(lines), depth)  # an event may lie across two chunks
        else:
            text = "".join(_text_of(part, depth - 1) for part in output)
    elif isinstance(output, Mapping):
        if isinstance(output.get("choices"), list):
            text = "".join(_choice_text(choice, depth - 1) for choice in output["choices"])
        else:
            text = next((_text_of(output[name], depth - 1) for name in _TEXT_VALUES if output.get(name)), "")
    return text


def _choice_text(choice: Any, depth: int) -> str:
    """OpenAI's deltas, messages and completions; worker-vllm's lists of tokens."""
    if not isinstance(choice, Mapping):
        return ""
    if isinstance(choice.get("tokens"), list):
        return "".join(str(token) for token in choice["tokens"])
    for name in ("delta", "message"):
        if isinstance(choice.get(name), Mapping):
            return _text_of(choice[name].get("content"), depth)
    return _text_of(choice.get("text"), depth)


def _sse_text(lines: str, depth: int) -> str:
    texts = []
    for line in lines.split("\n"):  # and nowhere else: JSON lets other line ends through inside a text
        if line.startswith(_SSE):
            try:
                event = lenient.loads(line.removeprefix(_SSE).encode())
            except ValueError:
                continue  # [DONE], or half an event
            texts.append(_text_of(event, depth - 1))
    return "".join(texts)
