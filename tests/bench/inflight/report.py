"""What was measured, for people."""

from collections.abc import Iterator

from tests.bench import machine
from tests.bench.inflight.measure import Measured
from tests.bench.inflight.phases import Phase, Verdict


def report(measured: Measured) -> str:
    """The whole report, phase by phase, each with what is wanted and whether it holds."""
    parts = [list(machine.lines(measured.machine)), *(list(_phase(phase)) for phase in measured.phases)]
    loads = ", ".join(f"{load:.1f}" for load in measured.loads)
    kept = sum(verdict.holds for phase in measured.phases for verdict in phase.verdicts)
    wanted = sum(len(phase.verdicts) for phase in measured.phases)
    parts.append([f"{kept} of {wanted} hold; load of the machine after each phase: {loads}"])
    return "\n".join(line for part in parts for line in ("", *part)).strip("\n")


def _phase(phase: Phase) -> Iterator[str]:
    flying = f"{phase.in_flight:,} in flight" if phase.in_flight else "sent while it lasts"
    yield f"{phase.words}: {flying}, {phase.ended:,} end in {phase.seconds:.0f} s"
    late, settled = (
        " / ".join(f"{each:.2f}" for each in figures) for figures in (phase.late_seconds, phase.settled_seconds)
    )
    yield f"  seen {late} s, settled {settled} s later (p50 / p95 / worst)"
    rate = phase.status_calls / phase.seconds
    yield f"  status calls {phase.status_calls:,}, {rate:.0f}/s of all the time; {phase.refused} refused as too many"
    if phase.cpu is not None:
        yield f"  of one CPU: {', '.join(f'{who} {share:.0%}' for who, share in phase.cpu.items())}"
    yield f"  {phase.kept_waiting:.0%} of the time the worker was ready to run and others had the processors"
    if len(phase.seen_by) > 1:
        yield f"  ends seen by each worker: {', '.join(map(str, phase.seen_by))}"
    if phase.took_over is not None:
        yield (
            f"  killed with {phase.took_over.leased} in its hands; nothing was under its lease any more after"
            f" {phase.took_over.seconds:.1f} s"
        )
    yield from (f"  NOT AS IT MUST BE: {words}" for words in phase.broken)
    yield from (f"  {_verdict(verdict)}" for verdict in phase.verdicts)


def _verdict(verdict: Verdict) -> str:
    digits = 0 if (verdict.unit in ("MB", "") and verdict.wanted >= 10) or verdict.wanted == 0 else 2
    measured, wanted = (
        f"{each:,.{digits}f}{' ' * bool(verdict.unit)}{verdict.unit}" for each in (verdict.measured, verdict.wanted)
    )
    return f"{'holds ' if verdict.holds else 'FAILS '} {verdict.words}: {measured}, wanted {wanted} at most"
