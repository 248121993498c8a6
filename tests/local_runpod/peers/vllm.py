"""worker-vllm's own handler from the clone at TWIN_WORKER_VLLM, started as its main.py does once vLLM is up."""

import importlib
import os
import sys
from pathlib import Path

import runpod

if __name__ == "__main__":
    sys.path.insert(0, str(Path(os.environ["TWIN_WORKER_VLLM"]) / "src"))
    handler = importlib.import_module("handler").handler
    runpod.serverless.start(
        {
            "handler": handler,
            "concurrency_modifier": lambda _: int(os.environ.get("MAX_CONCURRENCY", "30")),
            "return_aggregate_stream": True,
        }
    )
