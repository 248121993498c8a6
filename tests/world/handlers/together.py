"""A handler for tests that takes three jobs at once, and ends them only when it has all three."""

import asyncio
import os
from typing import Any

import runpod

AT_ONCE = 3
together = asyncio.Barrier(AT_ONCE)


async def handler(job: dict[str, Any]) -> str:
    await together.wait()
    return f"{job['input']['prompt']} by {os.getpid()}"


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda _: AT_ONCE})
