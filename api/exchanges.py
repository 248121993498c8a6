"""What RunPod answered, as staff may read it: short, and without prompts, keys or addresses that open something."""

import json
import re

SHOWN_CHARACTERS = 2000
READ_BYTES = 16_384
"""How much of an answer is looked at, so that little is left over when what must not be seen is gone."""
_LEAST_SEEN = 8
_CAPABILITY = re.compile(r"(/webhooks/runpod/)[A-Za-z0-9._~%-]+")
_QUERY = re.compile(r"(https?://[^\s\"'<>?#\\]+)[?#][^\s\"'<>\\]+")
_USERINFO = re.compile(r"(https?://)[^\s\"'<>/@\\]+@")
_KEY = re.compile(r"\b(?:rpa_|sk-|hf_|ghp_|AKIA)[A-Za-z0-9_-]{8,}|(?<=Bearer )[A-Za-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LONG = re.compile(r"[A-Za-z0-9+/=_-]{200,}")


def redacted(answer: bytes | str, *, prompt: str) -> str:
    """The beginning of an answer in which nothing is left that opens something, and none of the prompt."""
    text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
    for spelling in _spellings(prompt):
        text = _without_end(text.replace(spelling, "[prompt]"), spelling)
    for pattern, instead in (
        (_CAPABILITY, r"\1[token]"),
        (_USERINFO, r"\1[login]@"),
        (_QUERY, r"\1?[query]"),
        (_KEY, "[key]"),
        (_JWT, "[token]"),
    ):
        text = pattern.sub(instead, text)
    text = _LONG.sub(lambda found: f"[{len(found[0])} characters]", text)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _spellings(prompt: str) -> list[str]:
    """As it was sent, and as JSON and Python write it; the longest first."""
    escaped = {json.dumps(prompt)[1:-1], json.dumps(prompt, ensure_ascii=False)[1:-1], repr(prompt)[1:-1], prompt}
    return sorted((spelling for spelling in escaped if spelling.strip()), key=len, reverse=True)


def _without_end(text: str, spelling: str) -> str:
    """An answer is cut off somewhere: without the part of the prompt that it may end in."""
    for length in range(min(len(spelling) - 1, len(text)), _LEAST_SEEN - 1, -1):
        if text.endswith(spelling[:length]):
            return text[:-length] + "[prompt]"
    return text
