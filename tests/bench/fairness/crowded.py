"""What a single job waits for at an endpoint of which nobody said how much it runs: the whole system, by default.

Real loops of two workers over real Postgres and Valkey, against the local RunPod at a port of its own. One machine
takes jobs, one at a time; no webhook tells of an end. A crowd is there already.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from shared import queue
from shared.costs import Cost
from shared.database import prepare_connection
from shared.generations import Type
from tests.bench.fairness.gateway import open_gateway
from tests.bench.ground import Ground
from tests.bench.options import BenchFailed
from tests.flow.world import configuration, pictures, worker_settings
from tests.local import valkey
from tests.local.runpod.jobs import State
from tests.local.runpod.platform import Platform
from tests.worker.line import Line
from worker.main import Loops, open_context

WORKERS = 2
ENDPOINT: Final = "image"
PRICE: Final = Cost(
    price_version=1, type="image", unit_credits=1, batch_size=1, multiplier_permille=1000, total=1
).as_snapshot()
_LOOK_SECONDS = 0.01
_OWNER = """
SELECT g.user_id FROM generation_attempts AS a INNER JOIN generations AS g ON a.generation_id = g.id
WHERE a.remote_id = $1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What single jobs waited for, behind a crowd.

    Attributes:
        run_seconds: how long each job runs.
        begun_first: for each single job, how many of the crowd began between its submit and itself.
        waited: for how many runs it waited, from its submit to its begin.
        recalled: how many of the crowd's jobs were recalled.
        idle_percent: of the time, how much of it the machine had nothing to do.
    """

    run_seconds: float
    begun_first: Sequence[int]
    waited: Sequence[float]
    recalled: int
    idle_percent: float


@dataclass
class Machine:
    """It takes one job at a time; each runs as long."""

    platform: Platform
    run_seconds: float

    def __post_init__(self) -> None:
        self.begun: list[tuple[str, float]] = []

    async def run(self) -> None:
        """For ever."""
        while True:
            self.platform.hear(ENDPOINT, "machine")
            job = self.platform.take(ENDPOINT, "machine")
            if job is None:
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            self.begun.append((job.id, self.platform.clock()))
            await asyncio.sleep(self.run_seconds)
            if job.state is State.IN_PROGRESS:
                self.platform.complete(job.id, pictures(1))

    @property
    def idle_percent(self) -> float:
        """Between the begin of its first job and that of its last."""
        span = self.begun[-1][1] - self.begun[0][1]
        return 100 * (1 - (len(self.begun) - 1) * self.run_seconds / span)


async def behind(ground: Ground, folder: Path, *, crowd: int, singles: int, run_seconds: float) -> Behind:
    """Others come to a crowd, one after the other, each with one job."""
    url = await ground.database(accounts=1)
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    line = Line(connection)
    many = await line.person()
    async with AsyncExitStack() as stack:
        bell = valkey.run()
        stack.callback(bell.stop)
        platform, base_url = await stack.enter_async_context(open_gateway())
        told = configuration(database_url=url, redis_url=bell.url, storage=folder / "crowded")
        settings = worker_settings(told, runpod_base_url=base_url)
        contexts = [await stack.enter_async_context(open_context(settings)) for _ in range(WORKERS)]
        machine, stopping = Machine(platform, run_seconds), asyncio.Event()
        working = asyncio.create_task(machine.run())
        stack.callback(working.cancel)
        for _ in range(crowd):
            await line.submit(many, kind=Type.IMAGE, price=PRICE)
        running = asyncio.gather(*(Loops(context).run(stopping) for context in contexts))
        begun_first: list[int] = []
        waited: list[float] = []
        for _ in range(singles):
            seen = len(machine.begun)
            while len(machine.begun) < max(2, seen + random.randint(1, 2)):
                if len(machine.begun) == crowd + len(begun_first):
                    raise BenchFailed("The whole crowd has begun before the single jobs have come.")
                await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(random.uniform(0, run_seconds))
            since, before = platform.clock(), len(machine.begun)
            single = await line.person()
            theirs = await line.submit(single, kind=Type.IMAGE, price=PRICE)
            await queue.ring(contexts[0].queue, theirs.id, version=theirs.version)
            first = await _begun_before(connection, machine, single, before)
            begun_first.append(first)
            waited.append((machine.begun[before + first][1] - since) / run_seconds)
        stopping.set()
        await running
        recalled = await connection.fetchval("SELECT count(*) FROM generation_attempts WHERE outcome = 'recalled'")
    await connection.close()
    return Behind(
        run_seconds=run_seconds,
        begun_first=begun_first,
        waited=waited,
        recalled=recalled,
        idle_percent=machine.idle_percent,
    )


async def _begun_before(connection: asyncpg.Connection, machine: Machine, single: str, since: int) -> int:
    """How many began after that one, before the single one's."""
    count = 0
    while True:
        while len(machine.begun) <= since + count:
            await asyncio.sleep(_LOOK_SECONDS)
        owner = None
        while owner is None:  # a machine may be quicker than what we write down
            owner = await connection.fetchval(_OWNER, machine.begun[since + count][0])
            await asyncio.sleep(_LOOK_SECONDS)
        if owner == single:
            return count
        count += 1
