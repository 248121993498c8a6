"""Small pictures of large ones, so that a page of history weighs little. What cannot be made is done without."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps

from worker.media import IMAGE_FORMATS, Medium
from worker.memory import BYTES_PER_PIXEL

MEDIA_TYPE = "image/webp"
LONGEST_SIDE_PIXELS = 512
QUALITY = 80
# Pictures as they are shown; a measurement (16 or 32 bits a pixel) would have to be interpreted first.
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A WebP picture; sizes in pixels."""

    content: bytes
    width: int
    height: int


class NoThumbnail(ValueError):
    """None can be made of this; the message says why."""


def weight(medium: Medium) -> int | None:
    """How many bytes making one takes (measured); None for what has no pixels that we know, such as a video."""
    if medium.width is None or medium.height is None:
        return None
    # Pillow decodes WebP whole, keeps the decoder's canvas and copies the result.
    twice = 2 if medium.media_type == "image/webp" else 1
    return medium.width * medium.height * BYTES_PER_PIXEL * twice


def make(content: bytes) -> Thumbnail:
    """The first picture of an image that `media.inspect` found fit, small, upright, and without anything else in it.

    Orientation, colour profile, place and camera are in the image's metadata: the first is applied, the rest left out.

    Raises:
        NoThumbnail: Pillow cannot read it, whatever its head promised.
    """
    try:
        with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
            image.draft("RGB", (LONGEST_SIDE_PIXELS, LONGEST_SIDE_PIXELS))  # JPEG is not even decoded at full size
            image.load()
            if image.mode not in _MODES:
                msg = f"mode {image.mode}"
                raise NoThumbnail(msg)
            mode = "RGBA" if image.has_transparency_data else "RGB"
            small = image if image.mode == mode else image.convert(mode)
            small.thumbnail((LONGEST_SIDE_PIXELS, LONGEST_SIDE_PIXELS), Image.Resampling.LANCZOS)
            small = ImageOps.exif_transpose(small)
            small.info = {}
            buffer = BytesIO()
            small.save(buffer, "WEBP", quality=QUALITY)
    except NoThumbnail:
        raise
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError and more of a broken image
        msg = f"{type(error).__name__}: {error}"[:200]
        raise NoThumbnail(msg) from error
    return Thumbnail(buffer.getvalue(), small.width, small.height)
