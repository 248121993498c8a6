"""The order of events of one run: a crowd and single jobs, three plans side by side, and claims from long lines."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from shared.database import prepare_connection
from tests.bench import machine
from tests.bench.fairness.allowance import Arrived, arrivals
from tests.bench.fairness.crowded import Behind, behind
from tests.bench.figures import percentile
from tests.bench.ground import Ground, open_ground
from tests.bench.run import Say
from tests.worker.line import FILL, Line

WEIGHTS = (1, 2, 5)
BATCH = 50
HERDS = {"10,000 waiting, of 100 people": (100, False), "10,000 held back behind a limit": (1, True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much to measure; the defaults take a minute or two on two cores.

    Attributes:
        crowd: how many jobs one person submits at once.
        singles: how many others come with one job each while the crowd is being sent.
        turns: how many claims the three plans share.
        herd: how many wait while claims are timed.
        claims: how many claims each worker makes of them.
        allowance: requests in ten seconds that two workers may make of an endpoint …
        seconds: … while what arrives there is counted.
        run_seconds: how long a job runs at an endpoint of which nobody said how much it runs.
    """

    crowd: int = 1000
    singles: int = 20
    turns: int = 400
    herd: int = 10_000
    claims: int = 40
    allowance: int = 200
    seconds: float = 30
    run_seconds: float = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What so many workers, claiming at once, came to."""

    herd: str
    workers: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one run found.

    Attributes:
        sent_first: for each single job, how many of the crowd were sent between its submit and itself.
        stood_first: how many of the crowd stood before it by time, and would have been sent first in that order.
        shares: credits that the plan of each weight got, in percent of what its weight is due.
    """

    machine: Mapping[str, Any]
    size: Size
    sent_first: Sequence[int]
    stood_first: Sequence[int]
    shares: Mapping[str, float]
    claims: Sequence[Claims]
    arrived: Arrived
    behind: Behind


def measure(size: Size, folder: Path, *, say: Say) -> Measured:
    """Start Postgres in `folder`, measure, stop it."""
    with open_ground(folder) as ground:
        return asyncio.run(_measure(ground, size, folder, say))


async def _measure(ground: Ground, size: Size, folder: Path, say: Say) -> Measured:
    described = await machine.describe(ground)
    url = await ground.database(accounts=1)
    line = await _open(url)
    sent_first, stood_first = await _singles(line, size)
    say(f"sent {size.singles} single jobs through a crowd of {size.crowd}")
    shares = await _shares(line, size)
    say(f"shared {size.turns} turns")
    claims = []
    for herd, (people, held_back) in HERDS.items():
        for workers in (1, 2, 4):
            claims.append(
                await _claims(url, line, size, herd=herd, people=people, held_back=held_back, workers=workers)
            )
            say(f"claimed with {workers} workers from {herd}")
    await line.connection.close()
    arrived = await arrivals(ground, folder, allowance=size.allowance, seconds=size.seconds)
    say(f"counted what arrived in {size.seconds:.0f} s")
    behind_crowd = await behind(ground, folder, crowd=size.crowd, singles=size.singles, run_seconds=size.run_seconds)
    say(f"sent {size.singles} single jobs to a machine that a crowd has")
    return Measured(
        machine=described,
        size=size,
        sent_first=sent_first,
        stood_first=stood_first,
        shares=shares,
        claims=claims,
        arrived=arrived,
        behind=behind_crowd,
    )


async def _open(url: str) -> Line:
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    return Line(connection)


async def _singles(line: Line, size: Size) -> tuple[list[int], list[int]]:
    """One slot: a crowd is there already, and between its jobs others come with one each."""
    crowd = await line.person()
    for _ in range(size.crowd):
        await line.submit(crowd)
    sent_first, stood_first, sent = [], [], 0
    for _ in range(size.singles):
        for _ in range(random.randint(1, size.crowd // (2 * size.singles))):
            sent += len(await line.claim(1))
        single = await line.person()
        await line.submit(single)
        ahead = 0
        while (await line.claim(1))[0].user_id != single:
            ahead += 1
        sent_first.append(ahead)
        stood_first.append(size.crowd - sent)
        sent += ahead
    await line.empty()
    return sent_first, stood_first


async def _shares(line: Line, size: Size) -> dict[str, float]:
    people = {await line.person(weight=weight): weight for weight in WEIGHTS}
    for user_id in people:
        for _ in range(size.turns):  # each could take all the turns
            await line.submit(user_id)
    got: Counter[int] = Counter()
    for _ in range(size.turns):
        got.update(people[generation.user_id] for generation in await line.claim(1))
    await line.empty()
    return {f"weight {weight}": got[weight] * 100 * sum(WEIGHTS) / (weight * size.turns) for weight in WEIGHTS}


async def _claims(url: str, line: Line, size: Size, *, herd: str, people: int, held_back: bool, workers: int) -> Claims:
    """Batches by workers that claim as fast as they can; where the herd is held back, from a line beside it."""
    taken = workers * size.claims * BATCH
    await line.connection.execute("TRUNCATE generations CASCADE")
    await fill(line, size.herd, people=people, held_back=held_back)
    await fill(line, taken, people=100, held_back=False)
    await line.connection.execute("VACUUM ANALYZE generations")
    took: list[float] = []
    claimed = 0

    async def work() -> None:
        nonlocal claimed
        own = await _open(url)
        for _ in range(size.claims):
            began = time.perf_counter()
            count = len(await own.claim(BATCH))
            took.append(time.perf_counter() - began)
            claimed += count
        await own.connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(workers)))
    seconds = time.perf_counter() - began
    milliseconds = [each * 1000 for each in took]
    return Claims(
        herd=herd,
        workers=workers,
        per_second=claimed / seconds,
        p50_ms=percentile(milliseconds, 0.5),
        p99_ms=percentile(milliseconds, 0.99),
    )


async def fill(line: Line, count: int, *, people: int, held_back: bool) -> None:
    """Write so many that wait, without their money."""
    crowd = [await line.person() for _ in range(people)]
    async with line.connection.transaction():
        await line.connection.execute("SET LOCAL session_replication_role = replica")
        await line.connection.execute(FILL, crowd, count, held_back)


def _times(counts: Sequence[int]) -> str:
    return ", ".join(f"{count} ({times} times)" for count, times in sorted(Counter(counts).items()))


def report(measured: Measured) -> str:
    """The figures for people."""
    size, waited = measured.size, measured.behind.waited
    shares = ", ".join(f"{plan}: {share:.1f} %" for plan, share in measured.shares.items())
    return "\n".join(
        [
            *machine.lines(measured.machine),
            "",
            f"One slot, {size.crowd} jobs of one person, {size.singles} others with one job each",
            f"  of the crowd sent before the single one: at most {max(measured.sent_first)}",
            f"  in the order of arrival it would have been up to {max(measured.stood_first)}",
            f"Three plans that keep the line busy, of what is due to them over {size.turns} jobs: {shares}",
            f"Claims of {BATCH}",
            *(
                f"  {each.herd}, {each.workers} worker(s): {each.per_second:,.0f} generations/s,"
                f" p50 {each.p50_ms:.1f} ms, p99 {each.p99_ms:.1f} ms a claim"
                for each in measured.claims
            ),
            f"An allowance of {measured.arrived.allowance} /run in ten seconds, two workers, over HTTP",
            f"  in any ten seconds at most {measured.arrived.most}, over all {measured.arrived.percent:.1f} % of it",
            f"A machine of which nobody said how much it runs, jobs of {size.run_seconds:g} s, no webhooks,",
            f"{size.crowd} jobs of one person, {size.singles} others with one job each",
            f"  of the crowd begun before the single one: {_times(measured.behind.begun_first)}",
            f"  waited, in runs: p50 {percentile(waited, 0.5):.2f}, at most {max(waited):.2f}",
            f"  recalled: {measured.behind.recalled}; the machine idle: {measured.behind.idle_percent:.1f} %",
        ]
    )
