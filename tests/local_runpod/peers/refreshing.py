"""A handler for tests whose worker wants to be replaced after every job."""

import os
from typing import Any

import runpod


def handler(job: dict[str, Any]) -> int:
    return os.getpid()


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler, "refresh_worker": True})
