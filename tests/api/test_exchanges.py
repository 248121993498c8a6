"""What RunPod answered as staff may read it: the story, and nothing that opens a door."""

import json
import time

import pytest

from api.exchanges import SHOWN_CHARACTERS, redacted

PROMPT = 'a "kite" over\nthe sea, für immer & <lora:sky>'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            '{"webhook": "https://twin.example/webhooks/runpod/k1.AbC-_9~x"}',
            '"https://twin.example/webhooks/runpod/[token]"',
        ),
        (
            "see https://b.s3.example/x.png?X-Amz-Signature=abc&e=1 there",
            "see https://b.s3.example/x.png?[query] there",
        ),
        ("https://me:secret@host/x", "https://[login]@host/x"),
        (r"https:\/\/me:secret@host\/x", r"https:\/\/[login]@host\/x"),
        ("key rpa_ABCDEFGH12345678", "key [key]"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [key]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "[token]"),
        ("A" * 300, "[300 characters]"),
        (f"I cannot draw {PROMPT}!", "I cannot draw [prompt]!"),
        (json.dumps({"input": PROMPT}), '{"input": "[prompt]"}'),
        (json.dumps({"input": PROMPT}, ensure_ascii=False), '{"input": "[prompt]"}'),
        (repr({"input": PROMPT}), "{'input': '[prompt]'}"),
        (f"the input was: {PROMPT[:20]}", "the input was: [prompt]"),
        (b"\xff not text", "\ufffd not text"),
        # as Go writes JSON, and what a worker's error is: JSON inside JSON
        (r'{"url": "https://b.s3.example/x.png?e=1\u0026X-Amz-Signature=abc"}', '"https://b.s3.example/x.png?[query]"'),
        (r'{"url": "https:\/\/b.s3.example\/x.png?e=1&X-Amz-Signature=abc"}', "x.png?[query]"),
        (json.dumps({"error": json.dumps({"message": f"cannot draw {PROMPT}!"})}), "cannot draw [prompt]!"),
        (json.dumps({"error": repr({"message": f"cannot draw {PROMPT}!"})}), "cannot draw [prompt]!"),
        (r'{"input": "a \"kite\" over\nthe sea, für immer \u0026 \u003clora:sky\u003e"}', '{"input": "[prompt]"}'),
    ],
)
def test_nothing_is_left_that_opens_something(answer: str | bytes, said: str) -> None:
    assert said in redacted(answer, prompt=PROMPT)


def test_what_is_said_is_short() -> None:
    assert len(redacted("no. " * 10_000, prompt=PROMPT)) == SHOWN_CHARACTERS


def test_a_long_prompt_holds_nobody_up() -> None:
    """A page of dead letters has a hundred of them, and the process that shows it serves everybody."""
    prompt, answer = ("zwölf Bäume " * 700)[:8000], "eleven trees " * 1200
    began = time.process_time()
    for _ in range(20):
        redacted(answer, prompt=prompt)
    assert time.process_time() - began < 0.2


def test_a_prompt_of_blanks_takes_no_blanks_away() -> None:
    assert redacted("out of memory", prompt=" ") == "out of memory"
