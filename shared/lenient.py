"""JSON as models write it: Python lets half an emoji through as a lone surrogate, which strict readers refuse."""

import json
from typing import Any

import orjson


def loads(body: bytes) -> Any:
    """Read JSON; a lone surrogate becomes a question mark.

    Raises:
        ValueError: it is not JSON even so.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _mended(body)


def _mended(body: bytes) -> Any:
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except RecursionError as error:
        msg = "nested too deeply"
        raise ValueError(msg) from error
    return orjson.loads(text.encode("utf-8", "replace"))
