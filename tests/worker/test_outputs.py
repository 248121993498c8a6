"""The reader's manners: what it makes of shapes that nobody foresaw. The shapes that are known are in `fixtures/`."""

import base64
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.generations import Type
from worker.complaints import describe_error
from worker.outputs import MAXIMUM_ITEMS, Delivery, read_output

CONTENT = b"\x89PNG the bytes do not matter here"
URI = "data:image/png;base64," + base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize("generation_type", list(Type))
@pytest.mark.parametrize("output", [7, True, {"a": {"b": 1}}, [[{}, 1]], {"images": [{"filename": "a.png"}]}])
def test_an_unknown_shape_is_no_delivery_and_no_error(generation_type: Type, output: Any) -> None:
    assert read_output(generation_type, output) == Delivery()


@pytest.mark.parametrize("generation_type", list(Type))
def test_what_is_nested_without_end_is_an_unknown_shape(generation_type: Type) -> None:
    output: Any = URI
    for _ in range(5_000):
        output = [output]
    assert read_output(generation_type, output) == Delivery()


@pytest.mark.parametrize("clip", [{"video": URI}, {"video_url": "https://cdn.example/a.mp4"}, {"videos": [URI]}])
@pytest.mark.parametrize("stills", [{"images": ["https://cdn.example/a.png"]}, {"data": ["https://cdn.example/a.png"]}])
def test_a_clip_is_found_however_the_stills_beside_it_are_given(clip: dict[str, Any], stills: dict[str, Any]) -> None:
    assert read_output(Type.VIDEO, {**stills, **clip}) == read_output(Type.VIDEO, clip)


def test_a_worker_cannot_flood_us() -> None:
    assert len(read_output(Type.IMAGE, {"images": [URI] * (MAXIMUM_ITEMS + 5)}).items) == MAXIMUM_ITEMS
    answers = [{"choices": [{"message": {"content": "x"}}] * (MAXIMUM_ITEMS + 5)}]
    assert len(read_output(Type.TEXT, answers).items) == MAXIMUM_ITEMS


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ('{"error_type": "ValueError", "error_message": "boom", "error_traceback": "…"}', "boom"),
        ("{'message': 'a Python repr', 'code': 400}", "a Python repr"),
        ("{'error': {'message': 'deep in a repr', 'param': None}}", "deep in a repr"),
        ("{\"error_message\": \"{'message': 'a repr in JSON'}\"}", "a repr in JSON"),
        ({"unknown": 1}, "{'unknown': 1}"),
        (["one", {"message": "two"}], "one; two"),
        ("{not a dict", "{not a dict"),
        ("{'a': __import__('os').getcwd()}", "{'a': __import__('os').getcwd()}"),
        (r"{'message': 'C:\models'}", r"C:\models"),
        ("{" * 30_000, "{" * 500),
        ("{'a': " + "[" * 5_000, "{'a': " + "[" * 494),
        ("{'a': " + "-" * 9_000 + "1}", "{'a': " + "-" * 494),
        ("{'message': '" + "x" * 20_000 + "'}", "{'message': '" + "x" * 487),
        ('{"message": "' + "x" * 20_000 + '"}', "x" * 500),
        ("x" * 600, "x" * 500),
        (7, "7"),
    ],
)
def test_errors_are_described_in_one_line(error: Any, said: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert describe_error(error) == said


def test_an_error_that_never_ends_is_cut_off() -> None:
    error: Any = "x"
    for _ in range(200):
        error = {"error": [error]}
    assert describe_error(error) == "an error inside errors"


KEYS = (
    *("images", "image", "videos", "error", "errors", "status", "choices", "message", "result", "output", "data"),
    *("tokens", "delta", "content", "text", "index", "detail"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text(max_size=20)
    | st.sampled_from(["data: {}", "data: [DONE]", '{"choices": [{"text": "a"}]}', "{'message': 1}", URI]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
        )
    ),
    max_leaves=20,
)


@example({"error": [""]}, Type.TEXT)
@given(JSON, st.sampled_from(list(Type)))
def test_no_output_breaks_the_reader(output: Any, generation_type: Type) -> None:
    delivery = read_output(generation_type, output)
    assert sum([bool(delivery.items), delivery.error is not None, delivery.empty]) <= 1
    assert delivery.error != ""
    assert not any(item.text is not None and not item.text.strip() for item in delivery.items)
