"""A generator for tests, with its pieces aggregated; it breaks off where it is told to."""

from collections.abc import Iterator
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> Iterator[Any]:
    for number, piece in enumerate(job["input"]["pieces"]):
        if number == job["input"].get("breaks_at"):
            raise RuntimeError("broke off")
        yield piece


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
