"""`make bench-ledger`: measure, print the report, keep the figures in build/bench-ledger.json."""

import sys

from tests.bench.ledger.measure import measure
from tests.bench.ledger.options import from_arguments
from tests.bench.ledger.report import report
from tests.bench.run import run


def main() -> int:
    """Return the exit code."""
    options = from_arguments()
    return run(
        "make bench-ledger",
        measure=lambda folder, say: measure(options, folder, say=say),
        report=report,
        json=options.json,
    )


if __name__ == "__main__":
    sys.exit(main())
