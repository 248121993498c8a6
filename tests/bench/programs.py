"""Short programs of a benchmark: started side by side, waited for, and read."""

import time
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM

from tests.bench.options import BenchFailed
from tests.local import leashed


def run_alone(argv: Sequence[str], *, seconds: float, log: Path) -> bytes:
    """Run a program to its end and return what it printed. BenchFailed when it fails or takes too long."""
    return run_together([argv], seconds=seconds, log=log)[0]


def run_together(argvs: Sequence[Sequence[str]], *, seconds: float, log: Path) -> list[bytes]:
    """Run `python -m …` programs at once; return what each printed. BenchFailed when one fails or takes too long."""
    logs = [log.with_name(f"{number}-{log.name}") for number in range(len(argvs))]
    processes = []
    try:
        for argv, path in zip(argvs, logs, strict=True):
            with path.open("wb") as output:
                processes.append(leashed.start(leashed.Command(argv), output))
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        for process in processes:
            leashed.stop(process, SIGTERM, grace_seconds=1)
    for argv, process, path in zip(argvs, processes, logs, strict=True):
        if process.returncode != 0:
            raise BenchFailed(f"{argv[2]} failed ({process.returncode}):\n{last_words(path)}")
    return [path.read_bytes() for path in logs]


def last_words(log: Path) -> str:
    """The end of a part's log."""
    return log.read_text(errors="replace")[-2000:]
