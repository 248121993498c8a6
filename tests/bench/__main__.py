"""`make bench`: measure, print the report, keep the figures in build/bench.json."""

import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType

import orjson

from tests.bench.measure import measure
from tests.bench.options import BenchFailed, from_arguments
from tests.bench.report import report
from tests.local import leashed
from tests.local.postgres import PostgresRefused
from tests.local.valkey import ValkeyRefused

_BUILD = Path("build")
_FAREWELLS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Return the exit code: 1 when something could not be measured."""
    options = from_arguments()
    for number in _FAREWELLS:
        signal.signal(number, _leave)
    if "MAKELEVEL" in os.environ:
        leashed.follow_make(lambda: os.kill(os.getpid(), signal.SIGTERM))
    _BUILD.mkdir(exist_ok=True)
    # In the clone, not in /tmp: that may be memory, where a flush costs nothing.
    folder = Path(mkdtemp(prefix="bench-", dir=_BUILD)).absolute()
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    try:
        measured = measure(options, folder, say=say)
    except (BenchFailed, PostgresRefused, ValkeyRefused) as failure:
        print(f"make bench: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{report(measured)}")
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(asdict(measured), default=str, option=orjson.OPT_INDENT_2))
        print(f"\nFigures of every round: {options.json}")
    return 0


def _leave(number: int, _frame: FrameType | None) -> None:
    # Once: what follows is the orderly stop of every part, and make may pass the same signal on.
    for each in _FAREWELLS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
