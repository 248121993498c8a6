"""What a run of `make bench-inflight` does: how much of what, all of it bounded."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.options import up_to

PHASES = ("webhooks", "room", "limit", "kill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure. The defaults take about five minutes on two cores.

    Attributes:
        in_flight: jobs at the endpoint at once, where that is the point.
        rate: how many of them end in a second when webhooks come.
        seconds: for how long they end.
        arrivals: jobs that are sent in the phase in which the status limit leaves room.
        longest_run: how long the longest of these takes, in seconds; the shortest takes two.
        limited_rate: how many end in a second when nobody says so and the limit is short.
        limited_seconds: for how long.
        warm_up: seconds before anything ends, which are not counted.
        lease: for how many seconds what a worker claims is its own; 30 is what workers do by themselves.
        phases: which to measure.
        json: where the figures go; None to keep them nowhere.
    """

    in_flight: int = 10_000
    rate: int = 20
    seconds: int = 30
    arrivals: int = 350
    longest_run: int = 25
    limited_rate: int = 10
    limited_seconds: int = 45
    warm_up: float = 3
    lease: int = 30
    phases: Sequence[str] = PHASES
    json: Path | None = field(default=Path("build/bench-inflight.json"))


QUICK = Options(
    in_flight=40,
    rate=10,
    seconds=1,
    arrivals=8,
    longest_run=3,
    limited_rate=10,
    limited_seconds=1,
    warm_up=0,
    lease=8,
)
"""Everything once and shortly, to see that it works; the figures mean nothing."""


def from_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line (BENCH_ARGS of `make bench-inflight`)."""
    parser = argparse.ArgumentParser(prog="make bench-inflight", description="BENCH_ARGS may hold any of these.")

    def number(name: str, most: int, words: str) -> None:
        usual = getattr(Options(), name)
        told = f"--{name.replace('_', '-')}"
        parser.add_argument(told, type=up_to(most), metavar="N", help=f"{words} (default {usual})")

    number("in_flight", 100_000, "jobs at the endpoint at once")
    number("rate", 500, "of them that end in a second while webhooks come")
    number("seconds", 600, "for how long they do")
    number("arrivals", 10_000, "jobs that are sent where the status limit leaves room")
    number("longest_run", 600, "seconds that the longest of these takes")
    number("limited_rate", 500, "jobs that end in a second where the status limit is short")
    number("limited_seconds", 600, "for how long they do")
    parser.add_argument("--phases", nargs="+", choices=PHASES, help=f"only these (default {' '.join(PHASES)})")
    parser.add_argument("--quick", action="store_true", help="everything once and shortly, to see that it works")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    usual = QUICK if given.pop("quick") else Options()
    return replace(usual, **given)
