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
        mended = json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
        return orjson.loads(mended)
