"""Reading /stream: every shape of runpod.md 1.3 and 4, and what is none of them."""

from typing import Any

import orjson
import pytest

from worker.chunks import Drained, read_drained
from worker.remote import RemoteState, UnreadableAnswer
from worker.texts import joined


def body(status: str, *outputs: Any) -> bytes:
    return orjson.dumps({"status": status, "stream": [{"output": output} for output in outputs]})


def test_an_answer_as_it_was_captured() -> None:
    assert read_drained(body("IN_PROGRESS", "Hel", "lo")) == Drained(
        RemoteState.IN_PROGRESS, "Hello", 2, b'["Hel","lo"]'
    )
    assert read_drained(body("RUNNING")) == Drained(RemoteState.IN_PROGRESS, "", 0, b"[]")


def test_an_answer_as_it_is_documented() -> None:
    bare = orjson.dumps([{"output": {"text": "Hel"}}, {"output": "lo"}])
    assert read_drained(bare) == Drained(None, "Hello", 2, b'[{"text":"Hel"},"lo"]')
    assert not read_drained(b"[]").ended, "it does not say"


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (body("COMPLETED"), True),
        (body("FAILED"), True),
        (b'{"status": "TIMED_OUT"}', True),
        (b'{"status": "COMPLETED", "stream": null}', True),
        (body("COMPLETED", "x"), False),
        (body("IN_PROGRESS"), False),
        (body("IN_QUEUE"), False),
    ],
)
def test_a_stream_is_over_when_its_job_is_and_nothing_is_left(answer: bytes, *, ended: bool) -> None:
    assert read_drained(answer).ended is ended


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"{", b"7", b'"x"', b"{}", b'{"status": 404}', b'{"status": "DONE"}', b'{"status":"FAILED","stream":7}',
        b'[{"output":%b1%b}]' % (b"[" * 500, b"]" * 500),
    ],
)  # fmt: skip
def test_an_answer_without_sense_is_refused(answer: bytes) -> None:
    with pytest.raises(UnreadableAnswer):
        read_drained(answer)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("\n", "\n"),
        ("a\0b", "ab"),
        (["a", " ", "b\n"], "a b\n"),
        ({"choices": [{"tokens": ["a", " "]}, {"tokens": ["b"]}]}, "a b"),
        ({"choices": [{"delta": {"content": None}}, {"delta": {}}, 7, {"text": "c"}]}, "c"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "parts"}]}}]}, "parts"),
        ({"token": " x"}, " x"),
        ({"usage": {"output": 7}}, ""),
        ([7, None, True, {}], ""),
        ('data: {"choices":[{"delta":{"content":"a\u0085b\u2028c"}}]}\r\n\r\ndata: [DONE]\r\n', "a\u0085b\u2028c"),
        (['data: {"choices":[{"delta":{"con', 'tent":"cut"}}]}\n\n'], "cut"),
        (['data:{"choices":[{"text":"x"}]}\n', ": a comment\n", "event: end\n", 'data: {"half'], "x"),
        ('data: {"choices":[{"delta":{"content":"half \\ud83d"}}]}\n\n', "half ?"),
    ],
)
def test_the_text_of_every_shape(output: Any, text: str) -> None:
    assert joined(output) == text


def test_what_is_nested_too_deeply_has_no_text() -> None:
    nested: Any = "deep"
    for _ in range(5000):
        nested = [nested]
    assert joined(nested) == ""
    assert joined([["a", " "], ["b"]]) == "a b"
    assert joined([['data: {"text": "a"}\n\n'], ["data: [DONE]\n\n"]]) == "a"
