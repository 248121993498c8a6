"""Who kills whom: each mutant and the test that missed the guard last time, a line each in killers.tsv."""

from collections.abc import Mapping
from pathlib import Path

KEPT = Path(__file__).with_name("killers.tsv")


def read() -> dict[str, str]:
    """The test that killed each mutant."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return dict(line.split("\t", 1) for line in lines)


def keep(killers: Mapping[str, str]) -> None:
    """Write them down."""
    KEPT.write_text("".join(f"{name}\t{test}\n" for name, test in sorted(killers.items())), encoding="utf-8")
