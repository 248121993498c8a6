"""Reading texts out of what language models return: whole completions, lists of tokens, streams that were collected.

The one reader of texts: of whole outputs, and of the pieces that /stream gives, which come in the same shapes.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from shared import lenient

_TEXT_VALUES = ("text", "content", "generated_text", "token", "response", "output", "result", "transcription")
_CHOICE_PARTS = ("tokens", "delta", "message", "text")


def unwrapped(output: Any) -> Any:
    """The events of a stream that was collected as text (server-sent events, or a JSON object a line); else `output`.

    A stream is one only if all of it reads like one: an answer may well speak of `data: `.
    """
    parts = [piece for part in output for piece in _pieces(part)] if isinstance(output, list) else [output]
    if not parts or not all(isinstance(part, str) for part in parts):
        return output
    lines = [line.strip() for line in "".join(parts).split("\n") if line.strip()]
    if lines and all(line.startswith(("data:", "event:", "id:", ":")) for line in lines):
        payloads = [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]
        events = [event for payload in payloads if (event := _object(payload)) is not None]
        return events if events or "[DONE]" in payloads else output
    if isinstance(output, list):
        objects = [_object(part) for part in parts if part.strip()]
        if objects and all(found is not None and _is_told_by_choices(found) for found in objects):
            return objects
    return output


def read_texts(output: Any) -> Iterator[str]:
    """The texts of an unwrapped output, those with a word in them. A list of strings is one answer in pieces."""
    return (text for text in map(_storable, _texts(output)) if text.strip())


def joined(output: Any) -> str:
    """The text of an output that is one answer, whitespace and all; a list is its pieces. Nothing gives none."""
    try:
        return _storable("".join(_texts(unwrapped(output))))
    except RecursionError:
        return ""


def says_nothing(output: Any) -> bool:
    """A completion in a shape that we know, without a word in it."""
    if isinstance(output, list):
        return bool(output) and all(map(says_nothing, output))
    if isinstance(output, Mapping):
        choices = output.get("choices")
        return isinstance(choices, list) and all(
            isinstance(choice, Mapping) and any(name in choice for name in _CHOICE_PARTS) for choice in choices
        )
    return False


def _texts(output: Any) -> Iterator[str]:
    if isinstance(output, str):
        yield output
    elif isinstance(output, list):
        yield from _of_list(output)
    elif isinstance(output, Mapping):
        if isinstance(output.get("choices"), list):
            yield from _answers([output])
        else:
            yield from next((_texts(output[name]) for name in _TEXT_VALUES if output.get(name)), iter(()))


def _of_list(output: list[Any]) -> Iterator[str]:
    if output and all(isinstance(part, str) for part in output):
        yield "".join(output)
    elif output and all(isinstance(part, Mapping) and _comes_in_pieces(part) for part in output):
        yield from _answers(output)
    else:
        for part in output:
            yield from _texts(part)


def _pieces(part: Any) -> list[Any]:
    """A list among pieces is several pieces."""
    return part if isinstance(part, list) else [part]


def _is_told_by_choices(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    return isinstance(choices, list) and all(isinstance(choice, Mapping) for choice in choices)


def _comes_in_pieces(event: Mapping[str, Any]) -> bool:
    """Told by choices that are not messages, which are whole."""
    choices = event.get("choices")
    return isinstance(choices, list) and not any(isinstance(c, Mapping) and "message" in c for c in choices)


def _answers(events: list[Any]) -> Iterator[str]:
    """The pieces of a stream belong to the answer of their index."""
    answers: dict[int, list[str]] = {}
    for event in events:
        for place, choice in enumerate(event["choices"]):
            if isinstance(choice, Mapping):
                index = choice.get("index")
                answers.setdefault(index if isinstance(index, int) else place, []).append(_piece(choice))
    return map("".join, answers.values())


def _piece(choice: Mapping[str, Any]) -> str:
    if isinstance(choice.get("tokens"), list):
        return "".join(str(token) for token in choice["tokens"])
    for name in ("delta", "message"):
        said = choice.get(name)
        if isinstance(said, Mapping):
            return _content(said.get("content"))
    return _content(choice.get("text"))


def _content(content: Any) -> str:
    """A message's words; some models give them in typed parts."""
    if isinstance(content, list):
        return "".join(_content(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _storable(text: str) -> str:
    return text.replace("\0", "")  # a character that Postgres keeps nowhere


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = lenient.loads(text.encode())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
