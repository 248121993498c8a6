"""What was measured, for people."""

from collections.abc import Iterator, Sequence
from statistics import median

from tests.bench import machine
from tests.bench.figures import Spread, ratios
from tests.bench.ledger.cells import OURS, PGBENCH, Cell
from tests.bench.measure import Measured
from tests.bench.rounds import Round


def report(measured: Measured) -> str:
    """The whole report; a spread is the median with the lowest and highest round."""
    parts = (_head(measured), _rates(measured), _submits(measured), _ledger(measured.ledger), _cpu(measured))
    return "\n".join(line for part in (*parts, _profiles(measured)) for line in ("", *part)).strip("\n")


def _head(measured: Measured) -> Iterator[str]:
    options = measured.options
    yield from machine.lines(measured.machine)
    yield (
        f"{options.rounds} rounds in turns of {options.count} generations by {options.people} people;"
        f" {options.workers} worker of ours; API, worker, gateway, load, Postgres and Valkey share the machine"
    )


def _rates(measured: Measured) -> Iterator[str]:
    yield "Submit to settled, instant endpoint               generations/s       ours / it"
    ours = [each.per_second for each in measured.ours]
    yield f"  ours: API, Redis, worker, gateway, webhook      {_rate(ours):<19}"
    for words, rounds in (
        ("bare script, the same submits over HTTP        ", measured.bare),
        ("bare script, the people inside it              ", measured.inside),
    ):
        rates = [each.per_second for each in rounds]
        yield f"  {words} {_rate(rates):<19} {ratios(ours, rates).text(2)}"
    detours = sum(
        each.detours for each in (*measured.ours, *measured.bare, *measured.inside, measured.calm, measured.bare_calm)
    )
    if detours:
        yield f"  DISTURBED: {detours} transitions beyond the straight way (sent again, waited out, own rate limit)"


def _rate(values: Sequence[float]) -> str:
    return Spread.of(values).text()


def _submits(measured: Measured) -> Iterator[str]:
    yield "Latency in ms                                     submit p50 / p95    accepted to settled p50 / p95"
    yield _latency("ours, one person alone", [measured.calm])
    yield _latency("bare script, one person alone", [measured.bare_calm])
    yield _latency(f"ours, {measured.options.people} people at once", measured.ours)
    yield _latency(f"bare script, {measured.options.people} people at once", measured.bare)


def _latency(words: str, rounds: Sequence[Round]) -> str:
    submit = " / ".join(f"{median(each.submit_ms[i] for each in rounds):.1f}" for i in (0, 1))
    settle = " / ".join(f"{median(each.settle_ms[i] for each in rounds):.0f}" for i in (0, 1))
    return f"  {words:<47} {submit:<19} {settle}"


def _ledger(ledger: Sequence[Cell]) -> Iterator[str]:
    yield "Ledger: reserve + capture, each committed         pairs/s             pgbench             ours / pgbench"
    for cell in ledger:
        words, ours = f"{cell.callers} connection{'s' if cell.callers > 1 else ''}", cell.per_second(OURS).text()
        if PGBENCH not in cell.samples:
            yield f"  {words:<47} {ours:<19} no pgbench here     unknown"
        else:
            yield f"  {words:<47} {ours:<19} {cell.per_second(PGBENCH).text():<19} {cell.ratio(OURS, PGBENCH).text(2)}"


def _cpu(measured: Measured) -> Iterator[str]:
    yield "CPU per generation in ms, and the share of one CPU while the rounds lasted"
    for words, rounds in (("ours", measured.ours), ("bare script", measured.bare)):
        known = [each.cpu_seconds for each in rounds if each.cpu_seconds is not None]
        if not known:
            yield f"  {words}: unknown without /proc"
            continue
        count, seconds = sum(each.count for each in rounds), sum(each.seconds for each in rounds)
        totals = {name: sum(each[name] for each in known) for name in known[0]}
        cells = [f"{name} {1000 * used / count:.2f} ({used / seconds:.0%})" for name, used in totals.items()]
        yield f"  {words}: {', '.join(cells)}; together {1000 * sum(totals.values()) / count:.2f}"


def _profiles(measured: Measured) -> Iterator[str]:
    for name, lines in measured.profiles.items():
        total = sum(line.own_seconds for line in lines)
        yield f"cProfile of {name}, by own CPU time ({total:.2f} s in these; cProfile itself slows everything down)"
        yield from (f"  {line.own_seconds:6.2f} s {line.calls:>8} calls  {line.where}" for line in lines)
