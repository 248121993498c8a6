"""What a run of `make bench-ledger` does: how much of what, all of it bounded."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.ledger.callers import Crowd
from tests.bench.ledger.cells import Size
from tests.bench.options import up_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure. The defaults take up to ten minutes on two cores.

    Attributes:
        callers, crowds, accounts, seconds, warm_up, rounds: see `cells.Size`.
        weigh_seconds: how long each of the two batches of cycles is that are weighed.
        entries: how many entries are written for what reads history.
        looks: how often history is looked at, for each kind of account.
        people: how many come for the first time that day.
        pgledger: a clone of pgledger to measure beside us; None for not at all.
        json: where the figures go; None to keep them nowhere.
    """

    callers: Sequence[int] = (1, 8, 64)
    crowds: Sequence[Crowd] = ("uniform", "zipf", "hot")
    accounts: int = 10_000
    seconds: int = 3
    warm_up: float = 1
    rounds: int = 3
    weigh_seconds: int = 5
    entries: int = 1_000_000
    looks: int = 1000
    people: int = 100_000
    pgledger: Path | None = None
    json: Path | None = field(default=Path("build/bench-ledger.json"))

    @property
    def size(self) -> Size:
        """Of the cells."""
        return Size(
            accounts=self.accounts,
            callers=self.callers,
            crowds=self.crowds,
            seconds=self.seconds,
            warm_up=self.warm_up,
            rounds=self.rounds,
        )


QUICK = Options(
    callers=(2,),
    accounts=20,
    seconds=1,
    warm_up=0,
    rounds=1,
    weigh_seconds=1,
    entries=2000,
    looks=20,
    people=50,
)
"""Everything once and shortly, to see that it works; the figures mean nothing."""


def from_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line (BENCH_ARGS of `make bench-ledger`)."""
    parser = argparse.ArgumentParser(prog="make bench-ledger", description="BENCH_ARGS may hold any of these.")

    def number(name: str, most: int, words: str) -> None:
        usual = getattr(Options(), name)
        parser.add_argument(f"--{name}", type=up_to(most), metavar="N", help=f"{words} (default {usual})")

    number("accounts", 1_000_000, "people among whom callers choose")
    number("seconds", 120, "how long each side runs in one round, of which the first is not counted")
    number("rounds", 50, "rounds of each cell, interleaved")
    number("entries", 100_000_000, "entries for what reads history; a million of them take 1.5 GB")
    number("people", 10_000_000, "people who come for the first time that day")
    parser.add_argument("--pgledger", type=Path, metavar="FOLDER", help="a clone of github.com/pgr0ss/pgledger")
    parser.add_argument("--quick", action="store_true", help="everything once and shortly, to see that it works")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    usual = QUICK if given.pop("quick") else Options()
    return replace(usual, **given)
