"""A thumbnail is small, upright, still, and carries nothing but its pixels."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageCms

from worker import media, thumbnails
from worker.thumbnails import NoThumbnail, Thumbnail

RED, BLUE = (220, 20, 20), (20, 20, 220)


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **how)
    return buffer.getvalue()


def opened(thumbnail: Thumbnail) -> Image.Image:
    image = Image.open(BytesIO(thumbnail.content))
    assert (image.format, image.size) == ("WEBP", (thumbnail.width, thumbnail.height))
    return image


def is_near(found: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(found, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "small"),
    [((1024, 768), (512, 384)), ((300, 1200), (128, 512)), ((64, 48), (64, 48)), ((4000, 1), (512, 1))],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_its_longest_side_is_at_most_512_and_nothing_is_blown_up(
    form: str, size: tuple[int, int], small: tuple[int, int]
) -> None:
    made = thumbnails.make(encoded(Image.new("RGB", size, RED), form))
    assert (made.width, made.height) == small
    assert is_near(opened(made).convert("RGB").getpixel((0, 0)), RED)


def test_it_is_upright() -> None:
    """A camera that was held sideways says so in the metadata: the left half of the pixels is the top."""
    image = Image.new("RGB", (800, 400), BLUE)
    image.paste(RED, (0, 0, 400, 400))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = thumbnails.make(encoded(image, "JPEG", exif=exif))
    assert (made.width, made.height) == (256, 512)
    shown = opened(made).convert("RGB")
    assert is_near(shown.getpixel((128, 20)), RED)
    assert is_near(shown.getpixel((128, 490)), BLUE)


def test_place_camera_and_profile_stay_out_of_it() -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded(Image.new("RGB", (600, 600), RED), "JPEG", exif=exif, icc_profile=profile)
    made = thumbnails.make(content)
    assert not {"exif", "icc_profile", "xmp"} & opened(made).info.keys()
    for trace in (b"EXIF", b"ICCP", b"XMP ", b"A camera"):
        assert trace not in made.content


def test_what_moves_stands_still() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, BLUE)]
    made = thumbnails.make(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    shown = opened(made)
    assert getattr(shown, "n_frames", 1) == 1
    assert is_near(shown.convert("RGB").getpixel((5, 5)), RED)


def test_what_is_transparent_stays_transparent() -> None:
    made = thumbnails.make(encoded(Image.new("RGBA", (600, 600), (0, 0, 0, 0)), "PNG"))
    assert opened(made).convert("RGBA").getpixel((9, 9))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_kind_of_picture(mode: str) -> None:
    assert thumbnails.make(encoded(Image.new(mode, (600, 300)), "PNG")).width == 512


@pytest.mark.parametrize(
    "content",
    [
        b"not a picture",
        encoded(Image.effect_noise((300, 300), 50), "PNG")[:-2000],
        encoded(Image.new("I;16", (300, 300)), "PNG"),
    ],
    ids=["no picture", "cut off", "a measurement"],
)
def test_what_none_can_be_made_of_says_so(content: bytes) -> None:
    with pytest.raises(NoThumbnail):
        thumbnails.make(content)


def test_making_one_is_weighed_by_its_pixels() -> None:
    png = media.inspect(encoded(Image.new("RGB", (100, 50)), "PNG"))
    webp = media.inspect(encoded(Image.new("RGB", (100, 50)), "WEBP"))
    assert (thumbnails.weight(png), thumbnails.weight(webp)) == (40_000, 80_000)
    assert thumbnails.weight(media.Medium("video/mp4", "mp4", None, None, moves=True)) is None
