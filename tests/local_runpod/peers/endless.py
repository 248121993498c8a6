"""A handler for tests: says who it is, then works until it is stopped; with `{"stop": true}` it ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import runpod


async def handler(job: dict[str, Any]) -> AsyncIterator[int]:
    yield os.getpid()
    if not job["input"].get("stop"):
        await asyncio.Event().wait()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
