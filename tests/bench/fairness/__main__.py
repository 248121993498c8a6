"""`make bench-fairness`: measure, print the report, keep the figures in build/bench-fairness.json."""

import sys
from pathlib import Path

from tests.bench.fairness.measure import Size, measure, report
from tests.bench.run import run


def main() -> int:
    """Return the exit code."""
    return run(
        "make bench-fairness",
        measure=lambda folder, say: measure(Size(), folder, say=say),
        report=report,
        json=Path("build/bench-fairness.json"),
    )


if __name__ == "__main__":
    sys.exit(main())
