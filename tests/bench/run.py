"""One run of a benchmark as a program: a folder of its own, an orderly end whatever ends it, figures and a report."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import orjson

from tests.bench.options import BenchFailed
from tests.local import leashed
from tests.local.postgres import PostgresRefused
from tests.local.valkey import ValkeyRefused

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

M = TypeVar("M", bound="DataclassInstance")
Say = Callable[[str], None]

_BUILD = Path("build")
_FAREWELLS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(name: str, *, measure: Callable[[Path, Say], M], report: Callable[[M], str], json: Path | None) -> int:
    """Measure, print the report, keep the figures. Return the exit code: 1 when something could not be measured."""
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
        measured = measure(folder, say)
    except (BenchFailed, PostgresRefused, ValkeyRefused) as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{report(measured)}")
    if json is not None:
        json.write_bytes(orjson.dumps(asdict(measured), default=str, option=orjson.OPT_INDENT_2))
        print(f"\nFigures of every round: {json}")
    return 0


def _leave(number: int, _frame: FrameType | None) -> None:
    # Once: what follows is the orderly stop of every part, and make may pass the same signal on.
    for each in _FAREWELLS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
