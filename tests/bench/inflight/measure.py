"""The order of events of one run: Postgres and Valkey are started, and each phase has a database of its own."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import machine
from tests.bench.ground import open_ground
from tests.bench.inflight import phases
from tests.bench.inflight.options import Options
from tests.bench.inflight.processes import Surroundings
from tests.bench.inflight.seed import prepare
from tests.bench.run import Say
from tests.local import valkey
from tests.local.issuer import Issuer

PHASES = {"webhooks": phases.webhooks, "room": phases.room, "limit": phases.limit, "kill": phases.kill}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one run found; `loads` is how busy the machine was after each phase."""

    machine: Mapping[str, Any]
    options: Options
    phases: Sequence[phases.Phase]
    loads: Sequence[float]


def measure(options: Options, folder: Path, *, say: Say) -> Measured:
    """Start everything in `folder`, measure, stop everything. BenchFailed when a part did not do its work."""
    found, loads = [], []
    # Of every row it can be said when it was committed.
    with open_ground(folder, track_commit_timestamp="on") as ground:
        described = asyncio.run(machine.describe(ground))
        bell = valkey.run()
        try:
            prepared = asyncio.run(prepare(ground, max(options.in_flight, options.arrivals)))
            say("held the credits of all that will fly")
            around = Surroundings(ground, prepared, bell, Issuer.at(folder / "issuer.pem"))
            for name in options.phases:
                found.append(PHASES[name](around, options))
                loads.append(os.getloadavg()[0])
                say(f"{found[-1].words}: {found[-1].ended} ends in {found[-1].seconds:.0f} s")
        finally:
            bell.stop()
    return Measured(machine=described, options=options, phases=found, loads=loads)
