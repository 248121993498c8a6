"""`make bench`: measure, print the report, keep the figures in build/bench.json."""

import sys

from tests.bench.measure import measure
from tests.bench.options import from_arguments
from tests.bench.report import report
from tests.bench.run import run


def main() -> int:
    """Return the exit code."""
    options = from_arguments()
    return run(
        "make bench",
        measure=lambda folder, say: measure(options, folder, say=say),
        report=report,
        json=options.json,
    )


if __name__ == "__main__":
    sys.exit(main())
