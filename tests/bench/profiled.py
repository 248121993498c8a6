"""`python -m tests.bench.profiled OUT MODULE`: run a module as a program under cProfile, and write OUT when it ends.

Also when SIGTERM ends it: uvicorn hands the signal on when it has drained, which would otherwise end us unwritten.
"""

import cProfile
import pstats
import runpy
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Line:
    """A function: how often it was called, and the seconds inside it without what it called."""

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
    """Profile the module."""
    out, module = sys.argv[1:3]
    signal.signal(signal.SIGTERM, _leave)
    sys.argv = [module]
    profile = cProfile.Profile()
    try:
        profile.runcall(runpy.run_module, module, run_name="__main__", alter_sys=True)
    finally:
        profile.dump_stats(out)


if __name__ == "__main__":
    main()
