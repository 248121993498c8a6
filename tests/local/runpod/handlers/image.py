"""Images, in worker-sdxl's shape: a scene drawn from prompt and seed, 512 by 512 by default."""

import asyncio
from typing import Any

import runpod

from tests.local.runpod.handlers.asking import Asking, keep_pace, read, soft_error
from tests.local.runpod.handlers.pictures import as_data_uri, refine
from tests.local.runpod.handlers.scenes import paint


def draw(asking: Asking, item: int) -> str:
    """Draw one picture of the batch."""
    size = (asking.pixels("width", 512), asking.pixels("height", 512))
    return as_data_uri(refine(paint(asking, item, size), asking.steps()))


async def handler(job: dict[str, Any]) -> dict[str, Any] | list[dict[str, Any]]:
    """Draw one picture for each item of the batch."""
    asking = read(job)
    await keep_pace(job, asking)
    if (error := soft_error(asking)) is not None:
        return error
    images = [await asyncio.to_thread(draw, asking, item) for item in range(asking.deliverable)]
    return {"images": images, "seed": asking.seed} | asking.shortfall()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
