"""Pictures as handlers pass them: data URIs in and out, and the colours a prompt stands for."""

import base64
import binascii
import colorsys
import io
import random
import warnings
from typing import Final

from PIL import Image, ImageFilter

from tests.local.runpod.handlers.asking import USUAL_STEPS

Colour = tuple[int, int, int]

LARGEST_PIXELS: Final = 4096 * 4096
BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def as_data_uri(image: Image.Image) -> str:
    """Write the picture as `data:image/png;base64,…`."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def refine(image: Image.Image, steps: int) -> Image.Image:
    """Show what the steps did: fewer than usual leave it blurred, more bring out detail."""
    if steps < USUAL_STEPS:
        return image.filter(ImageFilter.GaussianBlur(max(image.size) / 256 * (USUAL_STEPS / steps - 1)))
    if steps > USUAL_STEPS:
        return image.filter(ImageFilter.UnsharpMask(radius=1, percent=2 * (steps - USUAL_STEPS), threshold=0))
    return image


def from_data_uri(given: object) -> Image.Image:
    """Read a picture from a data URI or plain base64. Raises ValueError when it is none."""
    if not isinstance(given, str) or not given:
        raise ValueError("image must be a data URI")
    encoded = given.partition(",")[2] if given.startswith("data:") else given
    try:
        raw = base64.b64decode(encoded, validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw)) as opened:
                if opened.width * opened.height > LARGEST_PIXELS:
                    raise ValueError("image is too large")
                return opened.convert("RGB")
    except (
        binascii.Error,
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(f"image cannot be read: {error}") from error


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Make a colour; all three from 0 to 1, the hue round and round."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, min(1, saturation), min(1, value))
    return round(red * 255), round(green * 255), round(blue * 255)


def between(one: Colour, other: Colour, share: float) -> Colour:
    """Mix two colours; 0 is the one, 1 the other."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """Paint a smooth change from top to bottom."""
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def hues(dice: random.Random) -> tuple[float, float, float]:
    """Choose three hues that go together."""
    first = dice.random()
    return first, first + dice.choice((0.08, -0.08, 0.12)), first + dice.choice((0.5, 0.42, 0.33))
