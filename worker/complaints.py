"""How models say that something went wrong: in `error`, in a COMPLETED output, in JSON or Python inside a string."""

import ast
import warnings
from collections.abc import Mapping
from typing import Any

import orjson

LONGEST_CHARACTERS = 500
_LONGEST_REPR_CHARACTERS = 20_000
_DEEPEST = 6
_MOST_IN_A_LIST = 4
_SAYING = ("error_message", "message", "detail", "error")


def describe_error(error: Any) -> str:
    """One line of whatever a worker calls an error: a string, JSON or Python in a string, a dict, a list of them."""
    return _described(error, depth=_DEEPEST) or "an error that says nothing"


def _described(error: Any, *, depth: int) -> str:
    if depth == 0:
        return "an error inside errors"
    if isinstance(error, str):
        inner = _written_in(error)
        return error.strip()[:LONGEST_CHARACTERS] if inner is None else _described(inner, depth=depth - 1)
    if isinstance(error, Mapping):
        for name in _SAYING:
            if error.get(name):
                return _described(error[name], depth=depth - 1)
    if isinstance(error, list) and error:
        return "; ".join(_described(part, depth=depth - 1) for part in error[:_MOST_IN_A_LIST])[:LONGEST_CHARACTERS]
    return str(error)[:LONGEST_CHARACTERS]


def hidden_error(answer: Any) -> str | None:
    """The error that a COMPLETED answer is, if it is one (runpod.md 4)."""
    if not isinstance(answer, Mapping):
        return None
    if answer.get("error"):
        return describe_error(answer["error"])
    if str(answer.get("status", "")).lower() in ("error", "failed") or answer.get("object") == "error":
        return describe_error(answer.get("message") or answer.get("result") or answer)
    if answer.keys() == {"detail"}:
        return describe_error(answer["detail"])
    return None


def _written_in(text: str) -> dict[str, Any] | None:
    """The dict that a string holds, as JSON or as Python writes it: worker-vllm sends `"{'message': …}"`."""
    stripped = text.strip()
    if not stripped.startswith("{"):
        return None
    try:
        found = orjson.loads(stripped)
    except orjson.JSONDecodeError:
        found = _python(stripped)
    return found if isinstance(found, dict) else None


def _python(text: str) -> Any:
    if len(text) > _LONGEST_REPR_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker's odd backslash is not our mistake
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
