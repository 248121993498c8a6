"""The callers from outside: in as few processes as carry them, so that none of these is what is measured."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from tests.bench.figures import percentile
from tests.bench.ledger.callers import Order, Outcome
from tests.bench.programs import run_together

_PATIENCE_SECONDS = 60
_CALLERS_EACH = 32  # of a process: with as many it is at work for less than half of the time


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round came to.

    Attributes:
        per_second: cycles (or operations, where nothing else is done), once everybody was warm.
        p50_p99_ms: of each operation, in their order; of the whole cycle where only that is known.
        load: the share of one CPU that the busiest of our calling processes used; None when unknown.
    """

    per_second: float
    p50_p99_ms: Sequence[tuple[float, float]]
    load: float | None = None

    @classmethod
    def of(cls, cycles: Sequence[Sequence[float]], begin: float, end: float, load: float | None = None) -> "Sample":
        """Of the cycles (when it ended, what its operations took) that ended within this time."""
        inside = [cycle for cycle in cycles if begin <= cycle[0] <= end]
        operations = list(zip(*inside, strict=True))[1:]
        p50_p99 = [(1000 * percentile(each, 0.5), 1000 * percentile(each, 0.99)) for each in operations]
        return cls(len(inside) / (end - begin), p50_p99, load)


def _processes(callers: int) -> int:
    return min(-(-callers // _CALLERS_EACH), os.cpu_count() or 1)


def send(order: Order, folder: Path) -> list[Outcome]:
    """Carry out an order. BenchFailed when a caller met an error, or when it takes far too long."""
    count = _processes(order.callers)
    argvs = []
    for number in range(count):
        part = replace(order, callers=_share(order.callers, number, count))
        if order.crowd is None:
            people = order.last - order.first
            first = order.first + people * number // count
            part = replace(part, first=first, last=order.first + people * (number + 1) // count)
        written = folder / f"order-{number}.json"
        written.write_bytes(orjson.dumps(asdict(part)))
        argvs.append([sys.executable, "-m", "tests.bench.ledger.callers", str(written)])
    said = run_together(argvs, seconds=order.seconds + _PATIENCE_SECONDS, log=folder / "callers.log")
    return [Outcome(**orjson.loads(each)) for each in said]


def _share(whole: int, number: int, count: int) -> int:
    return whole * (number + 1) // count - whole * number // count


def cycles_per_second(order: Order, folder: Path, *, warm_up: float) -> Sample:
    """Cycles by an order's callers; the first seconds are not counted."""
    return joint(send(order, folder), warm_up=warm_up)


def joint(outcomes: Sequence[Outcome], *, warm_up: float = 0) -> Sample:
    """What processes did together while all of them were at work and warm."""
    load = max(each.cpu_seconds / (each.ended_at - each.began_at) for each in outcomes)
    begin = max(each.began_at for each in outcomes) + warm_up
    end = min(each.ended_at for each in outcomes)
    return Sample.of([cycle for each in outcomes for cycle in each.cycles], begin, end, load)
