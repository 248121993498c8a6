"""Every output shape of runpod.md 4 that this worker reads, and what it makes of the ones it does not know."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.generations import Type
from worker.outputs import MAXIMUM_ITEMS, Delivery, Item, describe_error, read_output

CONTENT = b"\x89PNG the bytes do not matter here"
B64 = base64.b64encode(CONTENT).decode()
URI = f"data:image/png;base64,{B64}"
ADDRESS = "https://media.example.com/a.png"


@pytest.mark.parametrize(
    ("output", "texts"),
    [
        ("plain", ["plain"]),
        (["in ", "chunks"], ["in chunks"]),
        ([{"choices": [{"tokens": ["old ", "vllm"]}], "usage": {"input": 1, "output": 2}}], ["old vllm"]),
        ([{"choices": [{"tokens": ["a"]}, {"tokens": ["b"]}]}], ["a", "b"]),
        ([{"choices": [{"message": {"role": "assistant", "content": "new vllm"}}]}], ["new vllm"]),
        ({"choices": [{"text": "completion"}]}, ["completion"]),
        (['data: {"choices":[{"delta":{"content":"str"}}]}\n\n', 'data: {"choices":[{"delta":{"content":"eam"}}]}\n\n',
          "data: [DONE]\n\n"], ["stream"]),
        ({"text": "named"}, ["named"]),
        ("   ", []),
        ({}, []),
        ({"choices": []}, []),
    ],
)  # fmt: skip
def test_texts(output: Any, texts: list[str]) -> None:
    assert [item.text for item in read_output(Type.TEXT, output).items] == texts


@pytest.mark.parametrize(
    "output",
    [
        {"images": [{"filename": "a.png", "type": "base64", "data": B64}]},
        {"images": [URI], "image_url": URI, "seed": 1},
        {"images": [B64], "parameters": {}, "info": "{}"},
        {"image": B64, "info": {}},
        {"image": URI},
        {"videos": [{"filename": "a.mp4", "type": "base64", "data": B64}]},
        {"video": B64},
        {"message": B64, "status": "success"},
        [URI],
        URI,
        B64,
    ],
)
def test_media_bytes(output: Any) -> None:
    assert read_output(Type.IMAGE, output) == Delivery(items=(Item(content=CONTENT),))


@pytest.mark.parametrize(
    "output",
    [
        {"image_url": ADDRESS, "cost": 0.01},
        {"video_url": ADDRESS, "cost": 0.01},
        {"result": ADDRESS, "status": "DONE"},
        {"url": ADDRESS},
        {"images": [{"filename": "a.png", "type": "s3_url", "data": ADDRESS}]},
        ADDRESS,
    ],
)
def test_media_addresses(output: Any) -> None:
    assert read_output(Type.VIDEO, output) == Delivery(items=(Item(url=ADDRESS),))


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ({"error": "out of memory"}, "out of memory"),
        ({"error": {"message": "bad prompt"}}, "bad prompt"),
        ([{"error": {"message": "context too long", "code": 400}}], "context too long"),
        ({"error": "unsupported", "details": "x"}, "unsupported"),
        ({"status": "error", "message": "refused"}, "refused"),
        ({"result": "FAILED: no frames"}, "FAILED: no frames"),
    ],
)
def test_an_error_hidden_in_completed(output: Any, error: str) -> None:
    assert read_output(Type.IMAGE, output) == Delivery(error=error)


@pytest.mark.parametrize(
    "output", [None, 7, True, {"status": "success_no_images", "images": []}, {"a": {"b": 1}}, [[]]]
)
def test_an_unknown_shape_is_no_delivery_and_no_error(output: Any) -> None:
    assert read_output(Type.IMAGE, output) == Delivery()


def test_errors_of_a_partial_batch_do_not_hide_what_came() -> None:
    output = {"images": [URI], "errors": ["the second one failed"]}
    assert len(read_output(Type.IMAGE, output).items) == 1


def test_a_worker_cannot_flood_us() -> None:
    assert len(read_output(Type.IMAGE, {"images": [URI] * (MAXIMUM_ITEMS + 5)}).items) == MAXIMUM_ITEMS


def test_errors_are_described_in_one_line() -> None:
    assert describe_error('{"error_type": "ValueError", "error_message": "boom", "error_traceback": "…"}') == "boom"
    assert describe_error("{'message': 'a Python repr'}") == "{'message': 'a Python repr'}"
    assert describe_error({"unknown": 1}) == "{'unknown': 1}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["images", "image", "error", "status", "choices", "message", "result", "output", "x"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(list(Type)))
def test_no_output_breaks_the_reader(output: Any, generation_type: Type) -> None:
    delivery = read_output(generation_type, output)
    assert not (delivery.items and delivery.error)
