"""A handler for tests that ends a job in whatever mood is asked for; by default it says who it is."""

import asyncio
import os
from pathlib import Path
from typing import Any

import runpod


def die_unless(marker: Path) -> None:
    """Leave a mark and die, without it."""
    if not marker.exists():
        marker.touch()
        os._exit(3)


async def handler(job: dict[str, Any]) -> Any:
    match job["input"].get("mood"):
        case "raises":
            raise ValueError("no luck")
        case "soft error":
            return {"error": "soft failure", "detail": "the rest of it"}
        case "error as dict":
            return {"error": {"code": 7}}
        case "returns nothing":
            return None
        case "unserialisable":
            return {"what": object()}
        case "dies once":
            die_unless(Path(job["input"]["marker"]))
        case "dies":
            os._exit(3)
        case "asks for a refresh":
            return {"refresh_worker": True, "pid": os.getpid()}
        case "is never done":
            runpod.serverless.progress_update(job, "50%")
            await asyncio.Event().wait()
    return {"pid": os.getpid()}


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
