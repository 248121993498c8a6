"""What was measured, for people."""

from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench import machine
from tests.bench.ledger.cells import OURS, PGBENCH, POOLED, Cell
from tests.bench.ledger.measure import WEIGHED_CALLERS, Measured
from tests.bench.ledger.pgledger import MANY_REVENUES, ONE_REVENUE
from tests.bench.ledger.weight import Weight

_OTHERS = {
    POOLED: "ours, each operation with a connection from the pool, as a request has one",
    PGBENCH: "pgbench, the same functions",
    ONE_REVENUE: "pgledger, two transfers, one revenue account",
    MANY_REVENUES: "pgledger, two transfers, a revenue account for each person",
}


def report(measured: Measured) -> str:
    """The whole report; a spread is the median with the lowest and highest round."""
    parts = (_head(measured), _latencies(measured.cells), *_sides(measured), _rest(measured))
    return "\n".join(line for part in parts for line in ("", *part)).strip("\n")


def _head(measured: Measured) -> Iterator[str]:
    options = measured.options
    yield from machine.lines(measured.machine)
    yield (
        f"{options.rounds} rounds of every cell in turns, {options.seconds} s each of which the first"
        f" {options.warm_up:g} s are not counted; {options.accounts} accounts"
    )
    loads = [sample.load for cell in measured.cells for sample in cell.samples[OURS] if sample.load is not None]
    yield f"the busiest of our calling processes used {max(loads):.0%} of one CPU; load and Postgres share the machine"


def _latencies(cells: Sequence[Cell]) -> Iterator[str]:
    yield "Ours: shared/ledger.py over asyncpg     cycles/s            reserve p50 / p99 ms  capture p50 / p99 ms"
    for cell in cells:
        reserve, capture = (_p50_p99([sample.p50_p99_ms[i] for sample in cell.samples[OURS]]) for i in (0, 1))
        yield f"  {_name(cell):<37} {cell.per_second(OURS).text():<19} {reserve:<21} {capture}"


def _p50_p99(rounds: Sequence[tuple[float, float]]) -> str:
    return " / ".join(f"{median(each[i] for each in rounds):.2f}" for i in (0, 1))


def _name(cell: Cell) -> str:
    return f"{cell.callers:>2} caller{'s' if cell.callers > 1 else ' '} {cell.crowd}"


def _sides(measured: Measured) -> Iterator[Iterator[str]]:
    sides = measured.cells[0].samples
    if PGBENCH not in sides:
        yield iter(["There is no pgbench here, so there is nothing to compare with."])
    for side in sides:
        if side != OURS:
            yield _side(measured.cells, side)
    if measured.pgledger is None:
        yield iter(["pgledger was not measured: give a clone of it with --pgledger=FOLDER."])
    else:
        yield iter([f"pgledger.sql: SHA-256 {measured.pgledger}…"])


def _side(cells: Sequence[Cell], side: str) -> Iterator[str]:
    # What Postgres alone does is compared with what Postgres alone does.
    compared = [OURS, POOLED] if side == PGBENCH else [OURS] if side == POOLED else [PGBENCH]
    words = {OURS: "ours / it", POOLED: "pooled / it", PGBENCH: "pgbench on ours / it"}
    ratios_head = "   ".join(f"{words[other]:<20}" for other in compared)
    yield f"{_OTHERS[side]}"
    yield f"{'':<39} {'cycles/s':<19} {ratios_head} cycle p50 / p99 ms"
    for cell in cells:
        ratios = "   ".join(f"{cell.ratio(other, side).text(2):<20}" for other in compared)
        # The whole cycle is not known of those whose operations are.
        whole = [sample.p50_p99_ms[0] for sample in cell.samples[side] if len(sample.p50_p99_ms) == 1]
        p50_p99 = _p50_p99(whole) if whole else "not known"
        yield f"  {_name(cell):<37} {cell.per_second(side).text():<19} {ratios} {p50_p99}"


def _rest(measured: Measured) -> Iterator[str]:
    yield from _weight(measured.weight)
    midnight, written, reading = measured.midnight, measured.history, measured.at_a_time
    yield (
        f"Midnight: {midnight.people} first uses by {midnight.callers} callers: {midnight.per_second:.0f}/s,"
        f" p50 / p99 {_p50_p99([midnight.p50_p99_ms])} ms"
    )
    yield (
        f"History: {written.entries} entries in {written.accounts} accounts, {written.large_entries} of them in one,"
        f" {written.disk_bytes / 1e6:.0f} MB, written in {written.seconds:.0f} s"
    )
    yield (
        f"  balance at a time, p50 / p99 of {reading.looks}: the large account {_p50_p99([reading.large_ms])} ms,"
        f" small ones {_p50_p99([reading.small_ms])} ms"
    )
    verification = measured.verification
    yield f"  verified in {verification.seconds:.0f} s: {verification.entries_per_second:.0f} entries/s"


def _weight(weight: Weight) -> Iterator[str]:
    yield f"One cycle weighs, over {weight.cycles} cycles by {WEIGHED_CALLERS} callers"
    yield (
        f"  WAL {weight.wal_bytes:.0f} bytes with the full pages that come after a checkpoint,"
        f" {weight.wal_bytes_without_pages:.0f} without"
    )
    yield f"  disk {weight.disk_bytes:.0f} bytes, tables and indexes"
    tables = ", ".join(f"{name} {hot / updated:.1%}" for name, (updated, hot) in weight.updates.items())
    yield f"  HOT {weight.hot_share:.1%} of updates: {tables}"
