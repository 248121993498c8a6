"""Where a handler for tests stands still until the test lets it go on: a file."""

import asyncio
import os

_LOOK_EVERY_SECONDS = 0.02


async def pass_through(gate: str) -> None:
    """Wait for the file."""
    while not os.access(gate, os.F_OK):
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
