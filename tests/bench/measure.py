"""The order of events of one run: ours and the bare script in turns, one calm person, the ledger, and the profile."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine, profiled
from tests.bench.ground import make_database
from tests.bench.ledger import cells
from tests.bench.options import Options
from tests.bench.rounds import Round, run_round
from tests.bench.run import Say
from tests.bench.stack import Stack, bare, open_stack, product

LEDGER_ACCOUNTS = 1000
_LEDGER_WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one run found.

    Attributes:
        ours, bare, inside: the saturated rounds in order; `inside` is the bare script being the people itself.
        calm, bare_calm: one person alone.
        ledger: reserve and capture; `make bench-ledger` has more of it.
        profiles: the functions with the most own time by process, when asked for.
    """

    machine: Mapping[str, Any]
    options: Options
    ours: Sequence[Round]
    bare: Sequence[Round]
    inside: Sequence[Round]
    calm: Round
    bare_calm: Round
    ledger: Sequence[cells.Cell]
    profiles: Mapping[str, Sequence[profiled.Line]]


def measure(options: Options, folder: Path, *, say: Say) -> Measured:
    """Start everything in `folder`, measure, stop everything. BenchFailed when a part did not do its work."""
    with open_stack(folder, options) as stack:
        say("started Postgres, Valkey and the RunPod gateway")
        described = asyncio.run(machine.describe(stack))
        database_url = make_database(stack, accounts=options.people)
        rounds = _in_turns(stack, database_url, say)
        ledger = _ledger(stack, say)
        profiles = _profile(stack, database_url, say) if options.profile else {}
    return Measured(
        machine=described,
        options=options,
        ours=rounds["ours"],
        bare=rounds["bare"],
        inside=rounds["inside"],
        calm=rounds["calm"][0],
        bare_calm=rounds["calm"][1],
        ledger=ledger,
        profiles=profiles,
    )


def _in_turns(stack: Stack, database_url: str, say: Say) -> dict[str, list[Round]]:
    options = stack.options
    bare_url = make_database(stack, accounts=options.people)
    found: dict[str, list[Round]] = {"ours": [], "bare": [], "inside": [], "calm": []}
    with product(stack, database_url) as ours, bare(stack, bare_url) as script:
        say("started API, worker and the bare script; warming up")
        for target in (ours, script):
            run_round(stack, target, count=options.warm_up, people=options.people)
        for number in range(1, options.rounds + 1):
            for name, target, through_door in (("ours", ours, True), ("bare", script, True), ("inside", script, False)):
                found[name].append(
                    run_round(stack, target, count=options.count, people=options.people, through_door=through_door)
                )
            rates = [f"{each[-1].target} {each[-1].per_second:.0f}/s" for each in found.values() if each]
            say(f"round {number} of {options.rounds}: {', '.join(rates)}")
        found["calm"] = [run_round(stack, target, count=options.calm, people=1) for target in (ours, script)]
        say("one person alone: done")
    return found


def _ledger(stack: Stack, say: Say) -> list[cells.Cell]:
    options = stack.options
    size = cells.Size(
        accounts=LEDGER_ACCOUNTS,
        callers=options.connections,
        crowds=["uniform"],
        seconds=options.ledger_seconds,
        warm_up=_LEDGER_WARM_UP_SECONDS,
        rounds=options.ledger_rounds,
    )
    database_url = asyncio.run(cells.prepare(stack, size.accounts))
    return cells.in_turns(cells.sides(stack, database_url, size), size, say)


def _profile(stack: Stack, database_url: str, say: Say) -> dict[str, list[profiled.Line]]:
    with product(stack, database_url, profiles=stack.folder) as target:
        run_round(stack, target, count=stack.options.warm_up, people=stack.options.people)
        for pid in (*target.processes["api"], *target.processes["worker"]):
            os.kill(pid, signal.SIGUSR1)
        run_round(stack, target, count=stack.options.count, people=stack.options.people)
    say("the round under cProfile: done")
    return {name: profiled.top(stack.folder / f"{name}.profile") for name in ("api", "worker-1")}
