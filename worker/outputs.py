"""Reading what models return: every shape in runpod.md 4 becomes items; an error hidden in COMPLETED is found.

One lenient reader for all kinds of workers: a shape does not change its meaning with the worker that it came from. A
shape that it does not know is said to be unknown, and the generation is failed and refunded with the raw answer kept.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.generations import Type
from worker import texts
from worker.complaints import describe_error, hidden_error

MAXIMUM_ITEMS = 64
_DATA_URI = re.compile(r"^data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,")
# Where workers put media: lists first, then single values. Base64, data URIs and https addresses all occur.
_LISTS = ("images", "videos", "outputs", "result", "output", "data")
_VALUES = ("image_url", "video_url", "image", "video", "url", "b64_json", "result", "output", "data", "message")
_FAILED = "FAILED"
_SMALLEST_MEDIUM_BYTES = 32
"""A word such as `done` is base64, too, but no medium is so small."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a model delivered: a text, the bytes of a medium, or an address to fetch it from."""

    text: str | None = None
    content: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an answer holds.

    No items: `error` is what the model said, or it is `empty` and says so itself; neither when the shape is unknown.
    """

    items: tuple[Item, ...] = field(default=())
    error: str | None = None
    empty: bool = False


def read_output(generation_type: Type, output: Any) -> Delivery:
    """Read the `output` of a COMPLETED job."""
    try:
        return _read_texts(output) if generation_type is Type.TEXT else _read_media(generation_type, output)
    except RecursionError:
        return Delivery()


def _read_texts(output: Any) -> Delivery:
    """An error anywhere in a stream is the end of it: half an answer is not what was ordered."""
    told = texts.unwrapped(output)
    for part in told if isinstance(told, list) else [told]:
        if (error := hidden_error(part)) is not None:
            return Delivery(error=error)
    items = tuple(Item(text=text) for text in texts.read_texts(told))
    return Delivery(items[:MAXIMUM_ITEMS], empty=not items and (_is_blank(told) or texts.says_nothing(told)))


def _read_media(generation_type: Type, output: Any) -> Delivery:
    """An error beside what came, in a list or in `errors`, is about what did not come."""
    if (error := _failure(output)) is not None:
        return Delivery(error=error)
    video = generation_type is Type.VIDEO
    items = tuple(_media(output, video=video))
    if items:
        return Delivery(items[:MAXIMUM_ITEMS])
    for part in output if isinstance(output, list) else ():
        if (error := _failure(part)) is not None:
            return Delivery(error=error)
    if isinstance(output, Mapping) and output.get("errors"):
        return Delivery(error=describe_error(output["errors"]))
    return Delivery(empty=_is_blank(output))


def _failure(output: Any) -> str | None:
    error = hidden_error(output)
    result = output.get("result") if isinstance(output, Mapping) else None
    if error is None and isinstance(result, str) and result.startswith(_FAILED):
        return describe_error(result)
    return error


def _is_blank(output: Any) -> bool:
    if isinstance(output, Mapping):
        return not output or any(output.get(name) == [] for name in _LISTS)
    return output is None or output == [] or (isinstance(output, str) and not output.strip("\0 \t\r\n"))


def _media(output: Any, *, video: bool) -> Iterator[Item]:
    if isinstance(output, str):
        yield from _medium(output)
    elif isinstance(output, list):
        for part in output:
            yield from _media(part, video=video)
    elif isinstance(output, Mapping):
        for name, shape in _places(video=video):
            if isinstance(output.get(name), shape) and (found := list(_media(output[name], video=video))):
                yield from found
                return


def _places(*, video: bool) -> list[tuple[str, Any]]:
    """Names and what may be there, the likeliest first. A clip comes with stills beside it, never the reverse."""
    places: list[tuple[str, Any]] = [(name, list) for name in _LISTS] + [(name, str | Mapping) for name in _VALUES]
    return sorted(places, key=lambda place: "video" not in place[0]) if video else places


def _medium(text: str) -> Iterator[Item]:
    if text.startswith("https://"):
        yield Item(url=text)
        return
    encoded = _DATA_URI.sub("", text, count=1).replace("\r", "").replace("\n", "")
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return
    if len(content) >= _SMALLEST_MEDIUM_BYTES:
        yield Item(content=content)
