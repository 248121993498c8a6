"""Modified images: the given picture, visibly changed in the way the prompt names, or in two colours of its own."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import runpod
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from tests.local.runpod.handlers.asking import Asking, keep_pace, read, soft_error
from tests.local.runpod.handlers.pictures import as_data_uri, between, colour, from_data_uri, hues, refine

LONGEST_SIDE: Final = 1024

Change = Callable[[Image.Image, random.Random], Image.Image]


def _black_and_white(image: Image.Image, dice: random.Random) -> Image.Image:
    return ImageEnhance.Contrast(ImageOps.grayscale(image)).enhance(dice.uniform(1.1, 1.5)).convert("RGB")


def _blur(image: Image.Image, dice: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * dice.uniform(0.01, 0.02)))


def _tinted(red: float, blue: float) -> Change:
    def change(image: Image.Image, dice: random.Random) -> Image.Image:
        bands = list(image.split())
        strength = dice.uniform(0.8, 1.2)
        for index, gain in ((0, red), (2, blue)):
            factor = 1 + (gain - 1) * strength
            bands[index] = bands[index].point([min(255, round(value * factor)) for value in range(256)])
        return Image.merge("RGB", bands)

    return change


def _invert(image: Image.Image, _: random.Random) -> Image.Image:
    return ImageOps.invert(image)


def _frame(image: Image.Image, dice: random.Random) -> Image.Image:
    width = max(image.size) // 16
    mat = ImageOps.expand(image.resize((image.width - 4 * width, image.height - 4 * width)), width, (246, 242, 232))
    return ImageOps.expand(mat, width, colour(dice.random(), 0.5, 0.3))


def _sepia(image: Image.Image, dice: random.Random) -> Image.Image:
    tone = (112, 66, round(dice.uniform(15, 30)))
    return ImageOps.colorize(
        ImageOps.grayscale(image), (24, 14, 6), (255, 240, 208), mid=between(tone, (200, 160, 110), 0.5)
    )


def _mirror(image: Image.Image, _: random.Random) -> Image.Image:
    return ImageOps.mirror(image)


def _pixels(image: Image.Image, dice: random.Random) -> Image.Image:
    small = (dice.choice((24, 32, 40)),) * 2
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


CHANGES: Final[dict[str, Change]] = {
    "black and white": _black_and_white,
    "grayscale": _black_and_white,
    "greyscale": _black_and_white,
    "monochrome": _black_and_white,
    "blur": _blur,
    "soft": _blur,
    "warm": _tinted(1.25, 0.7),
    "sunset": _tinted(1.3, 0.6),
    "cold": _tinted(0.7, 1.3),
    "cool": _tinted(0.75, 1.25),
    "winter": _tinted(0.7, 1.3),
    "invert": _invert,
    "negative": _invert,
    "frame": _frame,
    "border": _frame,
    "sepia": _sepia,
    "vintage": _sepia,
    "mirror": _mirror,
    "flip": _mirror,
    "pixel": _pixels,
}


def modify(asking: Asking, item: int, image: Image.Image) -> Image.Image:
    """Change the picture in every way the prompt names, in order; in two colours if it names none."""
    dice = asking.dice(item)
    prompt = asking.prompt.lower()
    named = sorted((name for name in CHANGES if name in prompt), key=prompt.index)
    for name in named:
        image = CHANGES[name](image, dice)
    if not named:
        first, _, third = hues(asking.palette_dice())
        tilt = dice.uniform(-0.08, 0.08)
        image = ImageOps.colorize(
            ImageOps.grayscale(image), colour(third + tilt, 0.8, 0.25), colour(first + tilt, 0.25, 1)
        )
    image = refine(image, asking.steps())
    _sign(image, " + ".join(dict.fromkeys(named)) or "duotone")
    return image


def _sign(image: Image.Image, caption: str) -> None:
    size = max(10, image.height // 28)
    draw = ImageDraw.Draw(image)
    place = (size, image.height - 2 * size)
    draw.text(
        place,
        caption,
        fill="white",
        font=ImageFont.load_default(size),
        stroke_width=max(1, size // 8),
        stroke_fill="black",
    )


async def handler(job: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """Modify the given picture once for each item of the batch."""
    asking = read(job)
    image = from_data_uri(asking.parameters.get("image"))
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    if min(image.size) < 16:
        raise ValueError("image must be at least 16 pixels wide and high")
    await keep_pace(job, asking)
    if (error := soft_error(asking)) is not None:
        return error
    images = [
        as_data_uri(await asyncio.to_thread(modify, asking, item, image.copy())) for item in range(asking.deliverable)
    ]
    return {"images": images, "seed": asking.seed} | asking.shortfall()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
