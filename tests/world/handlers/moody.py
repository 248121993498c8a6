"""The moods of `tests/local_runpod/peers/moody.py`, asked for in a prompt that is JSON; what it returns is a text."""

import json
from typing import Any

import runpod

from tests.local_runpod.peers import moody


async def handler(job: dict[str, Any]) -> Any:
    made = await moody.handler(job | {"input": json.loads(job["input"]["prompt"])})
    if made is not None and "pid" in made:
        made["text"] = f"made by {made.pop('pid')}"
    return made


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
