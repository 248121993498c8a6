"""What each kind of worker is sent for an order: its own names, its own shapes, and never nothing."""

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from shared.generations import Type
from tests.worker.orders import ALL, BASE64, ID, SOURCE, URI, order, sent
from worker.endpoints import Profile
from worker.health import source_limits
from worker.kinds import KINDS
from worker.kinds.comfyui import Comfyui
from worker.kinds.order import MAXIMUM_INLINE_BYTES, Order, Source, TooLargeToSend
from worker.kinds.passthrough import Passthrough
from worker.runpod import MAXIMUM_REQUEST_BYTES
from worker.transitions import Endpoint


def test_passthrough_sends_everything_under_our_names() -> None:
    assert sent("passthrough", order(Type.IMAGE, batch_size=3, **ALL)) == {
        "prompt": "a kite",
        "batch_size": 3,
        **ALL,
    }
    modified = sent("passthrough", order(Type.MODIFY, source=SOURCE, seed=7), input={"strength": 0.5, "seed": 1})
    assert modified == {"prompt": "a kite", "batch_size": 1, "seed": 7, "strength": 0.5, "image": URI}


def test_vllm_gets_an_openai_request() -> None:
    options = {"model": "m/x", "system_prompt": "Be brief.", "max_tokens": 64, "input": {"temperature": 0.7, "n": 9}}
    assert sent("vllm", order(Type.TEXT, batch_size=2, seed=7), **options) == {
        "openai_route": "/v1/chat/completions",
        "openai_input": {
            "model": "m/x",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a kite"}],
            "max_tokens": 64,
            "temperature": 0.7,
            "n": 2,
            "seed": 7,
            "stream": False,
        },
    }


def test_vllm_legacy_gets_messages_and_sampling() -> None:
    assert sent("vllm-legacy", order(Type.TEXT, seed=7), input={"top_p": 0.9}) == {
        "messages": [{"role": "user", "content": "a kite"}],
        "sampling_params": {"max_tokens": 1024, "top_p": 0.9, "n": 1, "seed": 7},
        "stream": False,
    }


def test_only_a_single_text_is_asked_for_as_a_stream() -> None:
    one, two = order(Type.TEXT), order(Type.TEXT, batch_size=2)
    assert sent("vllm", one, model="m", streams=True)["openai_input"]["stream"] is True
    assert sent("vllm", two, model="m", streams=True)["openai_input"]["stream"] is False
    assert sent("vllm-legacy", one, streams=True)["stream"] is True
    assert sent("vllm-legacy", two, streams=True)["stream"] is False


def test_what_fits_into_no_request_goes_as_an_address_or_not_at_all() -> None:
    unread = Source(SOURCE.media_type, None, SOURCE.url)
    assert unread.address == SOURCE.url
    with pytest.raises(TooLargeToSend):
        unread.data_uri  # noqa: B018 - reading it is the act


def test_sdxl_makes_two_at_most_and_refines_an_address() -> None:
    assert sent("sdxl", order(Type.IMAGE, batch_size=5, **ALL), input={"guidance_scale": 7.5}) == {
        "prompt": "a kite",
        "seed": 7,
        "width": 512,
        "height": 768,
        "num_inference_steps": 30,
        "num_images": 2,
        "guidance_scale": 7.5,
    }
    assert sent("sdxl", order(Type.MODIFY, batch_size=2, source=SOURCE, seed=7, steps=30)) == {
        "prompt": "a kite",
        "seed": 7,
        "refiner_inference_steps": 30,
        "num_images": 1,
        "image_url": SOURCE.url,
    }


def test_a1111_gets_txt2img_parameters() -> None:
    assert sent("a1111", order(Type.IMAGE, batch_size=3, **ALL), input={"cfg_scale": 7}) == {
        "prompt": "a kite",
        "seed": 7,
        "steps": 30,
        "width": 512,
        "height": 768,
        "batch_size": 3,
        "cfg_scale": 7,
    }


@pytest.mark.parametrize(
    ("asked", "options", "expected"),
    [
        (order(Type.TEXT, seed=7), {"input": {"max_tokens": 9}}, {"max_tokens": 9}),
        (
            order(Type.IMAGE, **ALL),
            {},
            {"seed": 7, "num_inference_steps": 30, "width": 512, "height": 768, "duration": 4},
        ),
        (order(Type.VIDEO, seed=7, width=512, height=768), {"size": "size"}, {"seed": 7, "size": "512*768"}),
        (order(Type.VIDEO, seed=7, width=512), {"size": "size"}, {"seed": 7}),
        (order(Type.MODIFY, source=SOURCE, seed=7), {}, {"seed": 7, "image": URI}),
        (order(Type.MODIFY, source=SOURCE, seed=7), {"source": "images"}, {"seed": 7, "images": [URI]}),
    ],
)
def test_public_endpoints_get_their_documented_names(
    asked: Order, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert sent("public", asked, **options) == {"prompt": "a kite", **expected}


def test_an_edit_model_gets_bare_base64() -> None:
    assert sent("image-edit", order(Type.MODIFY, source=SOURCE, seed=7, steps=30)) == {
        "prompt": "a kite",
        "image": BASE64,
        "ref_images": [],
        "seed": 7,
        "steps": 30,
    }


def test_mochi_gets_frames() -> None:
    assert sent("mochi", order(Type.VIDEO, **ALL)) == {
        "positive_prompt": "a kite",
        "seed": 7,
        "steps": 30,
        "width": 512,
        "height": 768,
        "num_frames": 97,
    }
    assert sent("mochi", order(Type.VIDEO, seed=7)) == {"positive_prompt": "a kite", "seed": 7}


def test_generate_video_always_gets_a_picture_and_a_size() -> None:
    start = {"image_path": "/example_image.png"}
    usual = {"prompt": "a kite", "seed": 7, "cfg": 2.0}
    size = {"width": 480, "height": 832, "length": 81}
    assert sent("generate-video", order(Type.VIDEO, seed=7), **start) == {**usual, **size, **start}
    chosen = {"width": 512, "height": 768, "length": 65, "steps": 30}
    assert sent("generate-video", order(Type.VIDEO, **ALL), **start) == {**usual, **chosen, **start}
    moved = sent("generate-video", order(Type.VIDEO, source=SOURCE, seed=7), **start)
    assert moved == {**usual, **size, "image_base64": BASE64}


def test_an_order_without_a_seed_has_the_same_one_every_time() -> None:
    seeds = {sent("a1111", order(Type.IMAGE))["seed"] for _ in range(2)}
    assert seeds == {ID.int % 2**32}


@pytest.mark.parametrize("worker", sorted(set(KINDS) - {"comfyui"}))
def test_what_is_sent_is_json_and_never_empty(worker: str) -> None:
    needed = {"vllm": {"model": "m"}, "generate-video": {"image_path": "/a.png"}}
    for generation_type in KINDS[worker].types:
        source = SOURCE if generation_type is Type.MODIFY else None
        asked = sent(worker, order(generation_type, source=source), **needed.get(worker, {}))
        assert asked
        assert orjson.dumps(asked)


def test_options_are_of_exactly_their_types() -> None:
    with pytest.raises(ValidationError):
        Passthrough.model_validate({"input": 7})
    with pytest.raises(ValidationError):
        Passthrough.model_validate({"streams": "yes"})


# ------------------------------------------------------------------------------------- how large a picture may be


def profile(worker: str, endpoint_id: str, kind: Type = Type.MODIFY, **options: Any) -> Profile:
    return Profile(
        endpoint=Endpoint(type=kind, name=f"{worker} {endpoint_id}", endpoint_id=endpoint_id),
        queue_deadline=timedelta(minutes=1),
        run_deadline=timedelta(minutes=1),
        expected_run=timedelta(seconds=1),
        kind=KINDS[worker](**options),
    )


def test_the_largest_picture_leaves_room_for_the_rest_of_the_request() -> None:
    rest = MAXIMUM_REQUEST_BYTES - len(base64.b64encode(bytes(MAXIMUM_INLINE_BYTES)))
    assert rest > 512 * 1024
    filled = {"nodes": {str(n): {"class_type": "Note", "text": "{{prompt}} {{image}} {{seed}}"} for n in range(9_000)}}
    large = Comfyui.model_construct(workflow=filled["nodes"])
    assert MAXIMUM_INLINE_BYTES - 1_000_000 < large.largest_source_bytes < MAXIMUM_INLINE_BYTES - 500_000


def test_an_endpoint_takes_what_all_its_profiles_take() -> None:
    limits = source_limits(
        [
            profile("passthrough", "mine", Type.IMAGE), profile("passthrough", "mine"), profile("sdxl", "refine"),
            profile("public", "both"), profile("image-edit", "both"), profile("passthrough", "both"),
            profile("vllm", "words", Type.TEXT, model="m"),
        ]
    )  # fmt: skip
    assert limits == {"mine": MAXIMUM_INLINE_BYTES, "refine": None, "both": MAXIMUM_INLINE_BYTES, "words": None}


def test_what_is_too_large_is_an_address_to_who_can_fetch_it() -> None:
    heavy = replace(SOURCE, content=bytes(MAXIMUM_INLINE_BYTES + 1))
    assert sent("public", order(Type.MODIFY, source=heavy))["image"] == SOURCE.url
    assert sent("public", order(Type.MODIFY, source=heavy), source="images")["images"] == [SOURCE.url]
