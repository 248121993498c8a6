"""`python -m worker`."""

import sys

import uvloop

from shared.errors import ConfigurationRefused
from shared.settings import read
from worker.main import run
from worker.settings import WorkerSettings


def main() -> None:
    """Start a worker, or say why it cannot start."""
    try:
        uvloop.run(run(read(WorkerSettings)))
    except ConfigurationRefused as refusal:
        sys.exit(f"The worker does not start. {refusal}")


main()
