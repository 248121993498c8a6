"""Reading what models return: every shape in runpod.md 4 becomes items; an error hidden in COMPLETED is found.

A parser that does not know a shape says so, and the generation is failed and refunded with the raw answer kept.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from shared.generations import Type

MAXIMUM_ITEMS = 64
_DATA_URI = re.compile(r"^data:[\w.+-]+/[\w.+-]+;base64,")
# Where workers put media: lists first, then single values. Base64, data URIs and https addresses all occur.
_MEDIA_LISTS = ("images", "videos", "outputs", "result", "output")
_MEDIA_VALUES = ("image_url", "video_url", "image", "video", "url", "result", "data", "message")
_TEXT_VALUES = ("text", "content", "generated_text", "response", "output", "result")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a model delivered: a text, the bytes of a medium, or an address to fetch it from."""

    text: str | None = None
    content: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an answer holds. No items: `error` says what the model said, or is None when the shape is unknown."""

    items: tuple[Item, ...] = field(default=())
    error: str | None = None


def read_output(generation_type: Type, output: Any) -> Delivery:
    """Read the `output` of a COMPLETED job."""
    try:
        return _read(generation_type, output)
    except RecursionError:
        return Delivery()


def _read(generation_type: Type, output: Any) -> Delivery:
    error = _hidden_error(output)
    if error is not None:
        return Delivery(error=error)
    found = _texts(output) if generation_type is Type.TEXT else _media(output)
    return Delivery(items=tuple(found)[:MAXIMUM_ITEMS])


def describe_error(error: Any, *, depth: int = 4) -> str:
    """One line of whatever a worker calls an error: a string, JSON in a string, a dict (runpod.md 3.2)."""
    if depth == 0:
        return "an error inside errors"
    if isinstance(error, str):
        try:
            parsed = orjson.loads(error)
        except orjson.JSONDecodeError:
            return error.strip()[:500]
        return describe_error(parsed, depth=depth - 1) if isinstance(parsed, dict) else error.strip()[:500]
    if isinstance(error, Mapping):
        for name in ("error_message", "message", "detail", "error"):
            if error.get(name):
                return describe_error(error[name], depth=depth - 1)
    return str(error)[:500]


def _hidden_error(output: Any) -> str | None:
    first = output[0] if isinstance(output, list) and len(output) == 1 else output
    if not isinstance(first, Mapping):
        return None
    if first.get("error"):
        return describe_error(first["error"])
    if str(first.get("status", "")).lower() in ("error", "failed"):
        return describe_error(first.get("message") or first)
    result = first.get("result")
    if isinstance(result, str) and result.startswith("FAILED"):
        return describe_error(result)
    return None


def _texts(output: Any) -> Iterator[Item]:
    """Chat choices, vLLM token lists, plain strings. A list of strings is one answer in chunks."""
    if isinstance(output, str):
        # NUL is a character that Postgres keeps nowhere
        if output.replace("\0", "").strip():
            yield Item(text=output.replace("\0", ""))
    elif isinstance(output, list):
        if output and all(isinstance(part, str) for part in output):
            yield from _texts(_joined(output))
        else:
            for part in output:
                yield from _texts(part)
    elif isinstance(output, Mapping):
        if isinstance(output.get("choices"), list):
            for choice in output["choices"]:
                yield from _choice(choice)
        else:
            yield from next((_texts(output[name]) for name in _TEXT_VALUES if output.get(name)), iter(()))


def _choice(choice: Any) -> Iterator[Item]:
    if not isinstance(choice, Mapping):
        return
    message = choice.get("message")
    if isinstance(choice.get("tokens"), list):
        yield from _texts("".join(str(token) for token in choice["tokens"]))
    elif isinstance(message, Mapping):
        yield from _texts(message.get("content"))
    else:
        yield from _texts(choice.get("text"))


def _joined(parts: list[str]) -> str:
    """Join chunks; server-sent event lines (`data: {…}`) are read for what they carry (runpod.md 4)."""
    if not any(part.startswith("data: ") for part in parts):
        return "".join(parts)
    text = []
    for line in "".join(parts).splitlines():
        payload = line.removeprefix("data: ").strip()
        if not line.startswith("data: ") or payload == "[DONE]":
            continue
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            continue
        choices = event.get("choices") if isinstance(event, dict) else None
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                delta = choice.get("delta") or choice.get("message")
                content = delta.get("content") if isinstance(delta, dict) else None
                text.append(str(content or choice.get("text") or ""))
    return "".join(text)


def _media(output: Any) -> Iterator[Item]:
    if isinstance(output, str):
        yield from _medium(output)
    elif isinstance(output, list):
        for part in output:
            yield from _media(part)
    elif isinstance(output, Mapping):
        for name in _MEDIA_LISTS:
            if isinstance(output.get(name), list):
                yield from _media(output[name])
                return
        for name in _MEDIA_VALUES:
            if isinstance(output.get(name), str):
                yield from _medium(output[name])
                return


def _medium(text: str) -> Iterator[Item]:
    if text.startswith("https://"):
        yield Item(url=text)
        return
    try:
        content = base64.b64decode(_DATA_URI.sub("", text, count=1), validate=True)
    except (binascii.Error, ValueError):
        return
    if content:
        yield Item(content=content)
