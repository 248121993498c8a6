"""The sample handlers in themselves: what they accept, and that what they make is worth showing."""

import base64
import io
from typing import Any

import pytest
from PIL import Image, ImageFilter, ImageStat

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
        {"steps": 0},
        {"steps": 101},
        {"steps": 2.5},
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


def film_of(output: Any) -> tuple[int, int]:
    """(milliseconds, frames) of the first clip."""
    with Image.open(io.BytesIO(base64.b64decode(output["videos"][0]["data"]))) as film:
        durations = []
        for frame in range(getattr(film, "n_frames", 1)):
            film.seek(frame)
            film.load()
            durations.append(film.info["duration"])
    return sum(durations), len(durations)


@pytest.mark.parametrize("seconds", [1, 3, 20])
async def test_a_clip_is_as_long_as_was_asked_to_the_millisecond(seconds: int) -> None:
    output = await video.handler(asked(prompt="sun over the sea", seconds=seconds, width=64, height=64))
    milliseconds, frames = film_of(output)
    assert milliseconds == 1000 * seconds
    assert 12 <= frames <= video.MOST_FRAMES


@pytest.mark.parametrize("seconds", [0, 21, 1.5, "3", True, None])
async def test_a_length_without_sense_is_refused(seconds: object) -> None:
    with pytest.raises(ValueError, match="seconds"):
        await video.handler(asked(seconds=seconds))


def detail(uri: str) -> float:
    """How much neighbouring pixels differ."""
    return float(ImageStat.Stat(from_data_uri(uri).convert("L").filter(ImageFilter.FIND_EDGES)).mean[0])


async def test_more_steps_bring_out_more_and_the_usual_number_changes_nothing() -> None:
    drawn = [await image.handler(asked(prompt="city at night", steps=steps)) for steps in (1, 8, 20, 50, 100)]
    details = [detail(output["images"][0]) for output in drawn if isinstance(output, dict)]
    assert details == sorted(set(details))
    assert drawn[2] == await image.handler(asked(prompt="city at night"))


async def test_steps_show_in_changes_and_clips_too() -> None:
    original = as_data_uri(paint(read(asked(prompt="sun over the sea")), 0, (128, 96)))
    for handler, given in ((modify.handler, {"image": original}), (video.handler, {"width": 64, "height": 64})):
        usual, few = [await handler(asked(**given, **steps)) for steps in ({}, {"steps": 2})]
        assert usual != few
        assert usual == await handler(asked(**given, steps=20))


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
