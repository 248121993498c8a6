"""What a run of the benchmark does: how much of what, all of it bounded."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


class BenchFailed(Exception):
    """A part did not do its work, so there is nothing to report; the message says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure. The defaults take about two minutes on two cores.

    Attributes:
        people: concurrent people at saturation, each with an account of their own.
        count: generations in one measured round; beyond 900 our worker's own rate limit is what is measured.
        rounds: measured rounds of each side, interleaved.
        warm_up: generations of the round before them, which is not counted.
        calm: submits of the one person who has everything to themselves.
        workers: worker processes of ours.
        connections: how many clients the ledger is measured with, one after the other.
        ledger_seconds: how long each side runs in one ledger round.
        ledger_rounds: ledger rounds of each side, interleaved.
        profile: also run a round under cProfile, which is not counted.
        json: where the figures go; None to keep them nowhere.
    """

    people: int = 32
    count: int = 600
    rounds: int = 3
    warm_up: int = 100
    calm: int = 60
    workers: int = 1
    connections: Sequence[int] = (1, 8)
    ledger_seconds: int = 3
    ledger_rounds: int = 3
    profile: bool = False
    json: Path | None = field(default=Path("build/bench.json"))


def from_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line (BENCH_ARGS of `make bench`)."""
    usual = Options()
    parser = argparse.ArgumentParser(prog="make bench", description="BENCH_ARGS may hold any of these.")

    def number(name: str, default: int, most: int, words: str) -> None:
        parser.add_argument(name, type=up_to(most), default=default, metavar="N", help=f"{words} (default {default})")

    number("--people", usual.people, 200, "concurrent people at saturation")
    number("--count", usual.count, 20_000, "generations in one round")
    number("--rounds", usual.rounds, 50, "rounds of each side, interleaved")
    number("--warm-up", usual.warm_up, 5_000, "generations before the first round")
    number("--calm", usual.calm, 5_000, "submits by one person alone")
    number("--workers", usual.workers, 16, "worker processes of ours")
    number("--ledger-seconds", usual.ledger_seconds, 120, "length of a ledger round")
    number("--ledger-rounds", usual.ledger_rounds, 50, "ledger rounds of each side")
    parser.add_argument("--profile", action="store_true", help="one more round with API and worker under cProfile")
    given = parser.parse_args(arguments)
    return Options(**vars(given))


def up_to(most: int) -> Callable[[str], int]:
    def bounded(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            msg = f"must be 1 to {most}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return bounded
