"""`python -m tests.local.runpod.sdk_worker handler.py …`: run a RunPod handler file as `python handler.py …` would.

The one addition: when whoever started us is gone, even after kill -9, the whole process group goes, so that neither
the worker nor its ping process lives on. The handler and the SDK are untouched. Standard library only.
"""

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

_LOOK_EVERY_SECONDS = 0.5


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Tie ourselves to the parent, then become the handler's program."""
    handler = Path(sys.argv[1]).resolve()
    if os.getpgrp() == os.getpid():
        threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    sys.argv = [str(handler), *sys.argv[2:]]
    sys.path.insert(0, str(handler.parent))
    runpy.run_path(str(handler), run_name="__main__")


if __name__ == "__main__":
    main()
