"""How near to an allowance the running loops of two workers come over HTTP, and whether they ever go above it.

Real loops over real Postgres and Valkey, against the local RunPod at a port of its own, which counts what arrives; its
own limits are lifted, so that nothing but our buckets holds the workers back. RunPod takes jobs and does none.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shared.database import prepare_connection
from tests.bench.fairness.gateway import open_gateway
from tests.bench.ground import Ground
from tests.flow.world import configuration, worker_settings
from tests.local import valkey
from tests.worker.line import FILL, Line
from worker.main import Loops, open_context
from worker.settings import MOST_JOBS

WINDOW_SECONDS = 10
WORKERS = 2
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What arrived of /run while there was always work.

    Attributes:
        allowance: requests in ten seconds that the workers were told.
        most: the most that arrived in any ten seconds.
        seconds: how long was counted, from the first one on.
        count: how many arrived in that time.
    """

    allowance: int
    most: int
    seconds: float
    count: int

    @property
    def percent(self) -> float:
        """Of the allowance, on average."""
        return 100 * self.count * WINDOW_SECONDS / (self.allowance * self.seconds)


def most_in_a_window(moments: Sequence[float]) -> int:
    """The most in any ten seconds."""
    most, first = 0, 0
    for number, moment in enumerate(moments):
        while moment - moments[first] >= WINDOW_SECONDS:
            first += 1
        most = max(most, number - first + 1)
    return most


async def arrivals(ground: Ground, folder: Path, *, allowance: int, seconds: float) -> Arrived:
    """Fill the line, let the workers run, and count."""
    url = await ground.database(accounts=1)
    await _fill(url, count=int(2 * allowance * seconds / WINDOW_SECONDS) + allowance)
    async with AsyncExitStack() as stack:
        bell = valkey.run()
        stack.callback(bell.stop)
        platform, base_url = await stack.enter_async_context(open_gateway())
        told = configuration(database_url=url, redis_url=bell.url, storage=folder / "media")
        settings = worker_settings(told, runpod_base_url=base_url, run_allowance=allowance, max_concurrency=MOST_JOBS)
        contexts = [await stack.enter_async_context(open_context(settings)) for _ in range(WORKERS)]
        stopping = asyncio.Event()
        running = asyncio.gather(*(Loops(context).run(stopping) for context in contexts))
        while not (sent := platform.calls_to("run")) or platform.clock() < sent[0].at + seconds:
            await asyncio.sleep(_LOOK_SECONDS)
        moments = [call.at for call in platform.calls_to("run")]
        stopping.set()
        await running
    counted = [moment for moment in moments if moment < moments[0] + seconds]
    return Arrived(allowance=allowance, most=most_in_a_window(moments), seconds=seconds, count=len(counted))


async def _fill(url: str, *, count: int) -> None:
    """So many pictures that wait, without their money: none of them ends, and none is streamed."""
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    person = await Line(connection).person()
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(FILL, [person], count, False)
        await connection.execute("UPDATE generations SET type = 'image'")
    await connection.execute("ANALYZE generations")
    await connection.close()
