"""A generator for tests: tells the pieces that the prompt lists, each when the test has let go of the one before.

The prompt is JSON. `breaks_at` and `dies_at` name the piece before which it raises, or its process dies, which it does
only while there is no file `marker`.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import runpod

from tests.local_runpod.peers.moody import die_unless
from tests.world.handlers.gates import pass_through


async def handler(job: dict[str, Any]) -> AsyncIterator[Any]:
    asked = json.loads(job["input"]["prompt"])
    gates = Path(asked["gates"])
    for place, piece in enumerate(asked["pieces"]):
        if place == asked.get("breaks_at"):
            raise RuntimeError("broke off")
        if place == asked.get("dies_at"):
            die_unless(Path(asked["marker"]))
        yield piece
        await pass_through(f"{gates / str(place)}")


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
