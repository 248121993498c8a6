"""The sample handlers in themselves: what they accept, and that what they make is worth showing."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

from tests.local.runpod.handlers import image, modify, text, video
from tests.local.runpod.handlers.asking import read
from tests.local.runpod.handlers.pictures import as_data_uri, from_data_uri
from tests.local.runpod.handlers.scenes import MEANINGS, paint


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_HANDLER_PACE_SECONDS", "0")


def asked(**given: Any) -> dict[str, Any]:
    return {"id": "job", "input": {"prompt": "a walk", "seed": 1} | given}


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": None},
        {"prompt": "  "},
        {"prompt": 7},
        {"seed": "7"},
        {"seed": True},
        {"batch_size": 0},
        {"batch_size": 17},
        {"batch_size": 1.5},
        {"width": 63},
        {"height": 1025},
        {"width": "512"},
    ],
)
async def test_an_input_without_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        await image.handler(asked(**given))


@pytest.mark.parametrize("given", [None, "", 7, "data:image/png;base64,!!!", "data:image/png;base64,aGVsbG8=", "aGk"])
async def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="image"):
        await modify.handler(asked(image=given))


def test_a_picture_too_large_to_be_honest_is_refused() -> None:
    with pytest.raises(ValueError, match="too large"):
        from_data_uri(as_data_uri(Image.new("L", (5_000, 5_000))))


@pytest.mark.parametrize("prompt", [*MEANINGS, "nothing it knows", "sun night city forest sea mountain", "日本", "😀"])
def test_every_theme_can_be_painted_small_and_wide(prompt: str) -> None:
    asking = read(asked(prompt=prompt))
    for size in ((64, 64), (320, 96), (96, 320)):
        painted = paint(asking, 0, size)
        assert painted.size == size
        assert len(painted.getcolors(maxcolors=size[0] * size[1]) or []) > 30


@pytest.mark.parametrize("prompt", ["sun over the sea", "starry city", "forest", "abstract"])
def test_a_loop_moves_and_ends_where_it_began(prompt: str) -> None:
    asking = read(asked(prompt=prompt))
    first, middle, last = (paint(asking, 0, (96, 96), phase) for phase in (0, 0.3, 1))
    assert first.tobytes() != middle.tobytes()
    assert first.tobytes() == last.tobytes()


async def test_the_largest_likely_video_stays_small() -> None:
    output = await video.handler(asked(prompt="city at night by the sea, stars, forest, mountains"))
    assert isinstance(output, dict)
    raw = base64.b64decode(output["videos"][0]["data"])
    assert len(raw) < 400_000
    film = Image.open(io.BytesIO(raw))
    assert film.size == (320, 320)
    duration_ms = 0
    for frame in range(getattr(film, "n_frames", 1)):
        film.seek(frame)
        film.load()
        duration_ms += film.info["duration"]
    assert 2_000 <= duration_ms <= 3_000


@pytest.mark.parametrize("name", [*modify.CHANGES, "something else", "warm blur in a frame"])
async def test_every_change_can_be_seen(name: str) -> None:
    original = paint(read(asked(prompt="sun over the sea")), 0, (128, 96))
    output = await modify.handler(asked(prompt=name, image=as_data_uri(original), batch_size=2))
    assert isinstance(output, dict)
    for uri in output["images"]:
        changed = from_data_uri(uri)
        assert changed.size == original.size
        assert changed.tobytes() != original.tobytes()


@pytest.mark.parametrize("prompt", ["hi", "why?", "to be or not to be", "日本の海", "😀", "x " * 3_000])
async def test_text_reads_like_sentences_whatever_the_prompt(prompt: str) -> None:
    (body,) = await text.handler(asked(prompt=prompt, batch_size=3))
    for choice in body["choices"]:
        (answer,) = choice["tokens"]
        assert 4 <= answer.count(".") <= 8
        assert "{" not in answer
        assert len(answer) < 2_000
