"""What RunPod answered, as staff may read it: short, and without prompts, keys or addresses that open something."""

import json
import re

SHOWN_CHARACTERS = 2000
READ_BYTES = 16_384
"""How much of an answer is looked at, so that little is left over when what must not be seen is gone."""
_LEAST_SEEN = 8
_CAPABILITY = re.compile(r"(/webhooks/runpod/)[A-Za-z0-9._~%-]+")
# JSON may write any of an address's characters escaped, once more in JSON inside JSON
_ESCAPED = r"\\+(?:u[0-9a-fA-F]{4}|/)"
_QUERY = re.compile(rf"(https?:(?:[^\s\"'<>?#\\]|{_ESCAPED})+)[?#](?:[^\s\"'<>\\]|{_ESCAPED})+")
_USERINFO = re.compile(r"(https?:(?:\\*/){2})[^\s\"'<>/@\\]+@")
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
    """As it was sent, as JSON and Python write it, and that inside JSON, as workers' errors are; the longest first."""
    once = {prompt, repr(prompt)[1:-1], *_in_json(prompt)}
    twice = {again for spelling in once for again in _in_json(spelling)}
    return sorted((spelling for spelling in once | twice if spelling.strip()), key=len, reverse=True)


def _in_json(text: str) -> set[str]:
    """As writers of JSON spell it: Go escapes what HTML would read, too."""
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    careful = plain.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
    return {plain, careful, json.dumps(text)[1:-1]}


def _without_end(text: str, spelling: str) -> str:
    """An answer is cut off somewhere: without the part of the prompt that it may end in."""
    start = max(0, len(text) - len(spelling) + 1)
    while (start := text.find(spelling[:_LEAST_SEEN], start)) >= 0:
        if spelling.startswith(text[start:]):
            return text[:start] + "[prompt]"
        start += 1
    return text
