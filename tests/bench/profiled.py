"""`python -m tests.bench.profiled OUT MODULE`: run a module as a program that SIGUSR1 puts under cProfile.

So that starting up is not in the profile. OUT is written at the end, also when SIGTERM ends it: uvicorn hands the
signal on when it has drained, which would otherwise end us unwritten.
"""

import cProfile
import pstats
import runpy
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Line:
    """A function: how often it was called, and the CPU seconds inside it without what it called."""

    where: str
    calls: int
    own_seconds: float


def top(path: Path, count: int = 15) -> list[Line]:
    """The functions with the most time of their own, waiting for the next event left out."""
    table = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    lines = [Line(_where(*place), figures[1], figures[2]) for place, figures in table.items()]
    lines = [line for line in lines if "run_forever" not in line.where and "epoll" not in line.where]
    return sorted(lines, key=lambda line: line.own_seconds, reverse=True)[:count]


def _where(file: str, line: int, function: str) -> str:
    if file == "~":
        return function
    parts = Path(file).parts
    return f"{'/'.join(parts[-2:])}:{line} {function}"


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    """Run the module."""
    out, module = sys.argv[1:3]
    # CPU time: on a busy machine, wall time names whoever was waiting for a processor.
    profile = cProfile.Profile(time.process_time)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: profile.enable())
    signal.signal(signal.SIGTERM, _leave)
    sys.argv = [module]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        profile.disable()
        profile.dump_stats(out)


if __name__ == "__main__":
    main()
