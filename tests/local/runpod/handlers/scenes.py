"""Scenes painted from a prompt: sky, sun, stars, mountains, city, forest and sea, or waves of colour for the rest.

`phase` runs from 0 to 1 and back to the start without a seam, so that frames make a loop.
"""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

from tests.local.runpod.handlers.asking import Asking
from tests.local.runpod.handlers.pictures import Colour, between, colour, gradient, hues

SMOOTH: Final = 2
"""Painted this much larger and scaled down, for smooth edges."""

MEANINGS: Final = {
    "night": "night midnight moon moonlight star stars starry dark galaxy space cosmos nacht",
    "sun": "sun sunny sunset sunrise dawn dusk summer day morning evening golden sonne",
    "mountain": "mountain mountains hill hills alps peak peaks valley fjord landscape berg",
    "city": "city town skyline street skyscraper urban tower metropolis neon stadt",
    "forest": "forest tree trees wood woods pine jungle garden wald fox deer",
    "sea": "sea ocean water lake river beach wave waves boat ship island coast harbour lighthouse whale meer",
}


@dataclass(frozen=True)
class Look:
    """What every layer needs to know."""

    width: int
    height: int
    phase: float
    night: bool
    sky: Colour
    land: Colour
    light: Colour

    def swing(self, offset: float, times: int = 1) -> float:
        """A value from -1 to 1 that comes round with the phase."""
        return math.sin(2 * math.pi * (times * self.phase + offset))


def themes(prompt: str) -> frozenset[str]:
    """Tell what the prompt suggests."""
    words = set(re.findall(r"\w+", prompt.lower()))
    return frozenset(theme for theme, meant in MEANINGS.items() if words & set(meant.split()))


def paint(asking: Asking, item: int, size: tuple[int, int], phase: float = 0) -> Image.Image:
    """Paint one picture (or one frame of a loop); the same for the same prompt, seed, size and phase."""
    seen = themes(asking.prompt)
    dice = asking.dice(item)
    first, second, third = hues(asking.palette_dice())
    tilt = dice.uniform(-0.04, 0.04)
    night = "night" in seen
    if night:
        first, second = 0.58 + 0.2 * (first % 1), 0.62 + 0.3 * (second % 1)
    top = colour(first + tilt, 0.75, 0.22 if night else 0.8)
    bottom = colour(second + tilt, 0.55, 0.42 if night else 1)
    if "sun" in seen and not night:
        top, bottom = colour(0.92 + tilt, 0.55, 0.62), colour(0.09 + tilt, 0.6, 1)
    width, height = size[0] * SMOOTH, size[1] * SMOOTH
    look = Look(width, height, phase, night, bottom, colour(third + tilt, 0.55, 0.35), colour(second, 0.15, 1))
    image = gradient((width, height), top, bottom)
    for layer in _layers(seen):
        layer(image, look, dice)
    return image.resize(size, Image.Resampling.LANCZOS)


Layer = Callable[[Image.Image, Look, random.Random], None]


def _layers(seen: frozenset[str]) -> list[Layer]:
    if not seen:
        return [_orbs, _bands]
    layers: list[Layer] = [_stars, _moon] if "night" in seen else [_sun]
    grounds: dict[str, Layer] = {"mountain": _mountains, "city": _city, "forest": _forest, "sea": _sea}
    chosen = [layer for theme, layer in grounds.items() if theme in seen]
    return layers + (chosen or [_mountains])


def _stars(image: Image.Image, look: Look, dice: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for _ in range(140):
        x, y = dice.uniform(0, look.width), dice.uniform(0, look.height * 0.75)
        radius = dice.uniform(0.6, 2.2) * look.width / 512
        shine = 0.65 + 0.35 * look.swing(dice.random(), dice.choice((1, 2)))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=between(look.sky, (255, 250, 235), shine))


def _glow(image: Image.Image, centre: tuple[float, float], radius: float, tint: Colour, strength: float) -> None:
    side = max(2, round(radius * 2))
    # Pillow's gradient reaches its end in the corners; ours has to be gone at the edges.
    fade = [round(255 * strength * max(0.0, 1 - value * 1.42 / 255) ** 1.6) for value in range(256)]
    halo = Image.radial_gradient("L").resize((side, side)).point(fade)
    corner = (round(centre[0] - radius), round(centre[1] - radius))
    image.paste(Image.new("RGB", (side, side), tint), corner, halo)


def _sun(image: Image.Image, look: Look, dice: random.Random) -> None:
    radius = look.width * dice.uniform(0.08, 0.12)
    x = look.width * dice.uniform(0.3, 0.7)
    y = look.height * (dice.uniform(0.28, 0.42) + 0.015 * look.swing(0))
    _glow(image, (x, y), radius * 4, (255, 244, 214), 0.9)
    ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 247, 222))


def _moon(image: Image.Image, look: Look, dice: random.Random) -> None:
    radius = look.width * dice.uniform(0.07, 0.1)
    x, y = look.width * dice.uniform(0.25, 0.75), look.height * dice.uniform(0.16, 0.28)
    _glow(image, (x, y), radius * 3.5, (214, 224, 255), 0.45 + 0.08 * look.swing(0))
    shape = Image.new("L", image.size, 0)
    draw = ImageDraw.Draw(shape)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    shift = radius * dice.uniform(0.4, 0.8)
    draw.ellipse((x - radius + shift, y - radius * 1.15, x + radius + shift, y + radius * 0.85), fill=0)
    image.paste((250, 244, 220), (0, 0), shape)


def _ridge(look: Look, dice: random.Random, level: float, rough: float) -> list[tuple[float, float]]:
    waves = [(dice.uniform(0.5, 1) * rough / n, n * dice.uniform(0.8, 1.6), dice.random()) for n in (1, 2, 4, 8, 16)]
    points = []
    for step in range(129):
        share = step / 128
        lift = sum(height * abs(math.sin(math.pi * (share * often + offset))) for height, often, offset in waves)
        points.append((share * look.width, look.height * (level - lift)))
    return [*points, (look.width, look.height), (0, look.height)]


def _mountains(image: Image.Image, look: Look, dice: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for depth, level in enumerate((0.74, 0.84, 0.95)):
        draw.polygon(_ridge(look, dice, level, 0.17), fill=between(look.sky, look.land, 0.35 + 0.3 * depth))


def _city(image: Image.Image, look: Look, dice: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for depth in range(2):
        wall = between(look.sky, (22, 24, 46), 0.5 + 0.38 * depth)
        x = -look.width * 0.02
        while x < look.width:
            wide = look.width * dice.uniform(0.06, 0.12)
            top = look.height * (dice.uniform(0.36, 0.68) + 0.1 * depth)
            draw.rectangle((x, top, x + wide, look.height), fill=wall)
            cell = wide / 5
            for column in range(1, 5, 2 - depth):
                for row in range(int((look.height - top) / (cell * 1.6))):
                    glint = 0.75 + 0.25 * look.swing(dice.random())
                    if dice.random() < (0.5 if look.night else 0.28) * (0.4 + 0.6 * depth):
                        left, upper = x + column * cell - cell * 0.2, top + cell * (0.8 + row * 1.6)
                        box = (left, upper, left + cell * 0.6, upper + cell * 0.8)
                        draw.rectangle(box, fill=between(wall, (255, 221, 140), glint))
            x += wide * dice.uniform(1, 1.15)


def _forest(image: Image.Image, look: Look, dice: random.Random) -> None:
    draw = ImageDraw.Draw(image)
    for depth in range(3):
        green = between(look.sky, colour(0.36 + dice.uniform(-0.04, 0.04), 0.6, 0.28), 0.45 + 0.25 * depth)
        for _ in range(26 - 5 * depth):
            x = dice.uniform(0, look.width)
            base = look.height * (0.78 + 0.09 * depth + dice.uniform(-0.02, 0.02))
            tall = look.height * dice.uniform(0.16, 0.26) * (0.8 + 0.3 * depth)
            lean = tall * 0.03 * look.swing(x / look.width)
            for tier in range(3):
                upper, lower = base - tall * (1 - tier * 0.22), base - tall * (0.52 - tier * 0.26)
                half = tall * (0.13 + 0.07 * tier)
                draw.polygon(((x + lean * (3 - tier), upper), (x - half, lower), (x + half, lower)), fill=green)
        floor = look.height * (0.79 + 0.09 * depth)
        draw.rectangle((0, floor, look.width, look.height), fill=between(green, (0, 0, 0), 0.12))


def _sea(image: Image.Image, look: Look, dice: random.Random) -> None:
    horizon = round(look.height * 0.64)
    deep = colour(0.56 + dice.uniform(-0.03, 0.03), 0.75, 0.25 if look.night else 0.48)
    image.paste(gradient((look.width, look.height - horizon), between(look.sky, deep, 0.35), deep), (0, horizon))
    draw = ImageDraw.Draw(image)
    for row in range(16):
        near = (row + 1) / 16
        y = horizon + (look.height - horizon) * near**1.5
        offset, often = dice.random(), dice.uniform(2, 5)
        tint = between(deep, look.light, 0.5 - 0.28 * near)
        points = [
            (
                look.width * step / 64,
                y + look.height * 0.011 * near * math.sin(2 * math.pi * (often * step / 64 + offset + look.phase)),
            )
            for step in range(65)
        ]
        draw.line(points, fill=tint, width=max(1, round(look.width / 512 * (1 + 2.2 * near))), joint="curve")


def _orbs(image: Image.Image, look: Look, dice: random.Random) -> None:
    for _ in range(7):
        turn, reach = dice.random(), dice.uniform(0.02, 0.06)
        x = look.width * (dice.uniform(0.1, 0.9) + reach * look.swing(turn))
        y = look.height * (dice.uniform(0.08, 0.7) + reach * look.swing(turn + 0.25))
        radius = look.width * dice.uniform(0.08, 0.24)
        _glow(image, (x, y), radius * 1.5, between(look.light, look.sky, dice.random() * 0.5), 0.55)
    image.paste(image.filter(ImageFilter.GaussianBlur(look.width / 256)))


def _bands(image: Image.Image, look: Look, dice: random.Random) -> None:
    for depth in range(5):
        shape = Image.new("L", image.size, 0)
        level, lift, often, offset = (
            0.45 + 0.11 * depth,
            dice.uniform(0.03, 0.08),
            dice.uniform(0.6, 1.5),
            dice.random(),
        )
        points = [
            (look.width * step / 64, look.height * (level + lift * math.sin(2 * math.pi * (often * step / 64 + turn))))
            for turn in (offset + 0.06 * look.swing(offset),)
            for step in range(65)
        ]
        ImageDraw.Draw(shape).polygon([*points, (look.width, look.height), (0, look.height)], fill=150)
        image.paste(between(look.sky, look.land, 0.2 + 0.18 * depth), (0, 0), shape)
