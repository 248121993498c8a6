"""The order of events of one run: ours and the bare script in turns, one calm person, the ledger, and the profile."""

import asyncio
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.bench import pairs, pgbench, profiled
from tests.bench.options import Options
from tests.bench.rounds import Round, run_round
from tests.bench.stack import Stack, bare, make_database, open_stack, product

Say = Callable[[str], None]

_DURABILITY = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Reserve and capture pairs per second, one figure for each round; `pgbench` is None when there is none here."""

    connections: int
    ours: Sequence[float]
    pgbench: Sequence[float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one run found.

    Attributes:
        ours, bare, inside: the saturated rounds in order; `inside` is the bare script being the people itself.
        calm, bare_calm: one person alone.
        profiles: the functions with the most own time by process, when asked for.
    """

    machine: Mapping[str, Any]
    options: Options
    ours: Sequence[Round]
    bare: Sequence[Round]
    inside: Sequence[Round]
    calm: Round
    bare_calm: Round
    ledger: Sequence[Ledger]
    profiles: Mapping[str, Sequence[profiled.Line]]


def measure(options: Options, folder: Path, *, say: Say) -> Measured:
    """Start everything in `folder`, measure, stop everything. BenchFailed when a part did not do its work."""
    with open_stack(folder, options) as stack:
        say("started Postgres, Valkey and the RunPod gateway")
        machine = asyncio.run(_describe(stack))
        database_url = make_database(stack, accounts=options.people)
        rounds = _in_turns(stack, database_url, say)
        ledger = _ledger(stack, say)
        profiles = _profile(stack, database_url, say) if options.profile else {}
    return Measured(
        machine=machine,
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


def _ledger(stack: Stack, say: Say) -> list[Ledger]:
    options = stack.options
    program = pgbench.find(stack.server.cluster.programs)
    database_url = make_database(stack, accounts=max(options.connections))
    found = []
    for connections in options.connections:
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(options.ledger_rounds):
            ours.append(pairs.pairs_per_second(database_url, connections=connections, seconds=options.ledger_seconds))
            if program is not None:
                theirs.append(
                    pgbench.pairs_per_second(program, database_url, clients=connections, seconds=options.ledger_seconds)
                )
        found.append(Ledger(connections=connections, ours=ours, pgbench=theirs or None))
        say(f"ledger with {connections} connections: done")
    return found


def _profile(stack: Stack, database_url: str, say: Say) -> dict[str, list[profiled.Line]]:
    with product(stack, database_url, profiles=stack.folder) as target:
        run_round(stack, target, count=stack.options.warm_up, people=stack.options.people)
        for pid in (*target.processes["api"], *target.processes["worker"]):
            os.kill(pid, signal.SIGUSR1)
        run_round(stack, target, count=stack.options.count, people=stack.options.people)
    say("the round under cProfile: done")
    return {name: profiled.top(stack.folder / f"{name}.profile") for name in ("api", "worker-1")}


async def _describe(stack: Stack) -> dict[str, Any]:
    connection = await asyncpg.connect(stack.server.url)
    try:
        settings = {name: await connection.fetchval(f"SHOW {name}") for name in _DURABILITY}
    finally:
        await connection.close()
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "postgres": settings,
        "file_system": _file_system(stack.folder),
    }


def _file_system(folder: Path) -> str | None:
    """The type of file system that Postgres flushes to; on tmpfs a flush costs nothing. None when unknown."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except FileNotFoundError:
        return None
    under = [(len(where), kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(under)[1] if under else None
