"""Looking at a medium before we keep it: what it really is, how large, and that it is no bomb."""

import warnings
from dataclasses import dataclass
from io import BytesIO

import puremagic
from PIL import Image

from worker.containers import NoClip, check_mp4, check_webm

MAXIMUM_MEDIUM_BYTES = 64 * 1024 * 1024
MAXIMUM_PIXELS = 64_000_000
# The types that a browser shows without running anything: no SVG, no HTML.
_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
# Pillow reads many more; what is sniffed as one of ours and is none (JPEG 2000) is no picture to a browser.
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_CLIPS = {"video/mp4": check_mp4, "video/webm": check_webm}


@dataclass(frozen=True, slots=True)
class Medium:
    """What a medium was found to be; sizes in pixels, unknown for video files. `moves`: it is more than a still."""

    media_type: str
    extension: str
    width: int | None
    height: int | None
    moves: bool

    @property
    def is_clip(self) -> bool:
        """It is a video file, which no page shows as a picture."""
        return self.media_type in _CLIPS


class UnfitMedium(ValueError):
    """Not a medium that we keep; the message says why."""


def inspect(content: bytes) -> Medium:
    """Find out what the bytes are by looking at them, never by what somebody called them.

    Raises:
        UnfitMedium: too large, of a type we do not keep, or broken.
    """
    if len(content) > MAXIMUM_MEDIUM_BYTES:
        msg = f"{len(content)} bytes is more than {MAXIMUM_MEDIUM_BYTES}"
        raise UnfitMedium(msg)
    media_type = _sniff(content)
    if media_type not in _EXTENSIONS:
        msg = f"{media_type or 'an unknown type'} is not a type that we keep"
        raise UnfitMedium(msg)
    width, height, moves = _measure(content) if media_type not in _CLIPS else _watch(content, media_type)
    return Medium(media_type=media_type, extension=_EXTENSIONS[media_type], width=width, height=height, moves=moves)


def _sniff(content: bytes) -> str:
    try:
        return puremagic.from_string(content, mime=True)
    except (puremagic.PureError, ValueError):
        return ""


def _watch(content: bytes, media_type: str) -> tuple[None, None, bool]:
    try:
        _CLIPS[media_type](content)
    except NoClip as error:
        raise UnfitMedium(str(error)) from error
    return None, None, True


def _measure(content: bytes) -> tuple[int, int, bool]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=IMAGE_FORMATS) as image:
                width, height = image.size
                moves = bool(getattr(image, "is_animated", False))
                image.verify()
    except Exception as error:  # Pillow's readers raise OSError, SyntaxError, ValueError and more of a broken image
        msg = f"a broken image: {error}"[:200]
        raise UnfitMedium(msg) from error
    if width * height > MAXIMUM_PIXELS:
        msg = f"{width} x {height} pixels is more than {MAXIMUM_PIXELS}"
        raise UnfitMedium(msg)
    return width, height, moves
