"""`make bench-inflight`: measure, print the report, keep the figures in build/bench-inflight.json."""

import sys

from tests.bench.inflight.measure import measure
from tests.bench.inflight.options import from_arguments
from tests.bench.inflight.report import report
from tests.bench.run import run


def main() -> int:
    """Return the exit code."""
    options = from_arguments()
    return run(
        "make bench-inflight",
        measure=lambda folder, say: measure(options, folder, say=say),
        report=report,
        json=options.json,
    )


if __name__ == "__main__":
    sys.exit(main())
