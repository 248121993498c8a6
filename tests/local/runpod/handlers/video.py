"""Video, as the ComfyUI forks deliver it: a short loop (animated WebP) of the scene that prompt and seed stand for."""

import asyncio
import base64
import io
from typing import Any, Final

import runpod

from tests.local.runpod.handlers.asking import Asking, keep_pace, read, soft_error
from tests.local.runpod.handlers.pictures import refine
from tests.local.runpod.handlers.scenes import paint

SIDE: Final = 320
LOOP_MS: Final = 2400
FRAME_MS: Final = 80
MOST_FRAMES: Final = 75


def film(asking: Asking, item: int) -> bytes:
    """Film a clip of 2.4 seconds, or of as many as were asked for: long ones have fewer frames a second."""
    size = (asking.pixels("width", SIDE), asking.pixels("height", SIDE))
    length, steps = asking.duration_ms(LOOP_MS), asking.steps()
    count = min(MOST_FRAMES, length // FRAME_MS)
    rounds = max(1, round(length / LOOP_MS))
    frames = [refine(paint(asking, item, size, frame * rounds / count % 1), steps) for frame in range(count)]
    # To the millisecond: what whole frames leave over is spread over the first ones.
    shown, over = divmod(length, count)
    durations = [shown + (frame < over) for frame in range(count)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=60, method=2
    )
    return buffer.getvalue()


async def handler(job: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """Film one loop for each item of the batch."""
    asking = read(job)
    await keep_pace(job, asking)
    if (error := soft_error(asking)) is not None:
        return error
    videos = []
    for item in range(asking.deliverable):
        data = base64.b64encode(await asyncio.to_thread(film, asking, item)).decode()
        videos.append({"filename": f"loop-{asking.seed}-{item + 1}.webp", "type": "base64", "data": data})
    return {"videos": videos, "seed": asking.seed} | asking.shortfall()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
