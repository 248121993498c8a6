"""Video, as the ComfyUI forks deliver it: a short loop (animated WebP) of the scene that prompt and seed stand for."""

import asyncio
import base64
import io
from typing import Any, Final

import runpod

from tests.local.runpod.handlers.asking import Asking, keep_pace, read, soft_error
from tests.local.runpod.handlers.scenes import paint

SIDE: Final = 320
FRAMES: Final = 30
FRAME_MS: Final = 80


def film(asking: Asking, item: int) -> bytes:
    """Film one loop of 2.4 seconds."""
    size = (asking.pixels("width", SIDE), asking.pixels("height", SIDE))
    frames = [paint(asking, item, size, frame / FRAMES) for frame in range(FRAMES)]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=60, method=2
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
