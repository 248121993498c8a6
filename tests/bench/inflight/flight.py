"""One flight: everything is started, jobs end by plan, and it is over when every end that was planned is settled."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import asyncpg
import orjson

from shared.database import Connection
from tests.bench import cpu
from tests.bench.inflight.gateway import Findings
from tests.bench.inflight.processes import Course, Surroundings, kept_waiting, peak_mb, processes
from tests.bench.inflight.seed import SQL, copy, open_connection, seed
from tests.bench.options import BenchFailed
from tests.bench.parts import Part
from worker.audit import AUDITS

LONGEST_SECONDS = 240
_LOOK_SECONDS = 0.25
_CATCH_SECONDS = 10
"""For so long a moment is looked for in which a worker holds something."""
_GLANCE_SECONDS = 0.005
_OUTLAST_SECONDS = 1
"""A worker that lives has given back by then what it held, or begun on something else."""


@dataclass(slots=True)
class Scene:
    """The flight while it lasts."""

    database_url: str
    workers: Sequence[Part]
    began_at: float
    took_over: "TakeOver | None" = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A worker was killed: what it had claimed, and how long until its leases were over.

    `silent_since`: it was paused then, and killed without having done anything more.
    """

    silent_since: float
    leased: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flown:
    """Everything that a flight left behind; times are seconds since 1970 by RunPod's id of the job.

    `seen_by`: how many ends each worker saw, by its log. `kept_waiting_seconds`: how long the first worker was ready to
    run and others had the processors.
    """

    findings: Findings
    seen: Mapping[str, float]
    settled: Mapping[str, float]
    in_flight: int
    began_at: float
    ended_at: float
    peak_mb: Sequence[float]
    seen_by: Sequence[int]
    cpu_seconds: Mapping[str, float] | None
    kept_waiting_seconds: float
    broken: Sequence[str] = field(default_factory=list)
    took_over: TakeOver | None = None


Meanwhile = Callable[[Scene], Awaitable[None]]


async def nothing(_: Scene) -> None:
    """Just let it fly."""


def fly(around: Surroundings, course: Course, *, meanwhile: Meanwhile = nothing) -> Flown:
    """Fly one course. BenchFailed when not all that ended is settled in time."""
    folder = around.ground.folder / uuid4().hex[:8]
    folder.mkdir()
    database_url = asyncio.run(copy(around.ground, around.prepared))
    asyncio.run(seed(database_url, in_flight=[job for job, _ in course.jobs], in_line=course.in_line))
    with processes(around, folder, course, database_url) as (gateway, api, workers):
        time.sleep(course.warm_up)
        families = {
            "worker": [workers[0].pid],
            "api": [api.pid],
            "gateway": [gateway.pid],
            "postgres": [around.ground.server.process.pid],
        }
        before, waited = cpu.used(families), kept_waiting(workers[0])
        os.kill(gateway.pid, signal.SIGUSR1)
        scene = Scene(database_url, workers, time.time())
        asyncio.run(_watch(scene, course, meanwhile))
        ended_at = time.time()
        used = cpu.spent(before, cpu.used(families))
        waited = kept_waiting(workers[0]) - waited
        peaks = [peak_mb(part) for part in workers if not part.killed]
    findings = Findings(**orjson.loads((folder / "findings.json").read_bytes()))
    rows, broken = asyncio.run(_read(database_url, course))
    return Flown(
        findings=findings,
        seen={row["remote_id"]: row["seen"] for row in rows},
        settled={row["remote_id"]: row["settled"] for row in rows},
        in_flight=len(course.jobs),
        began_at=scene.began_at,
        ended_at=ended_at,
        peak_mb=peaks,
        seen_by=[part.log.read_bytes().count(b'"generation.finishing"') for part in workers],
        cpu_seconds=used,
        kept_waiting_seconds=waited,
        broken=broken,
        took_over=scene.took_over,
    )


async def _watch(scene: Scene, course: Course, meanwhile: Meanwhile) -> None:
    """Until as many are completed as end."""
    connection = await open_connection(scene.database_url)
    acting = asyncio.ensure_future(meanwhile(scene))
    try:
        deadline = time.monotonic() + LONGEST_SECONDS
        while (completed := await connection.fetchval(SQL["completed"])) < course.ends:
            if time.monotonic() > deadline:
                raise BenchFailed(f"of {course.ends} that ended {completed} were settled in {LONGEST_SECONDS} s")
            for part in scene.workers:
                part.refuse_if_ended("while it was measured")
            await asyncio.sleep(_LOOK_SECONDS)
        await acting
    finally:
        acting.cancel()
        await connection.close()


async def kill_one(scene: Scene, *, after_seconds: float) -> None:
    """kill -9 the last worker with something in its hands, and wait until nothing is under its lease any more.

    If it has nothing for too long it is killed all the same, and a verdict says so.
    """
    await asyncio.sleep(after_seconds)
    connection = await open_connection(scene.database_url)
    victim = scene.workers[-1]
    try:
        await _catch(connection, victim)
        silent_since = time.time()
        leases = await _leases(connection)
        victim.kill()
        await asyncio.sleep(2 * _OUTLAST_SECONDS)
        leased = left = await connection.fetchval(SQL["still_leased"], *leases)
        while left:
            await asyncio.sleep(_LOOK_SECONDS)
            left = await connection.fetchval(SQL["still_leased"], *leases)
        scene.took_over = TakeOver(silent_since, leased, time.time() - silent_since if leased else 0.0)
    finally:
        await connection.close()


async def _catch(connection: Connection, victim: Part) -> None:
    """Pause it at a moment at which it holds something; it is paused in the end in any case.

    No row tells whose a lease is: what a paused worker holds is what outlasts the leases of those that live.
    """
    deadline = time.monotonic() + _CATCH_SECONDS
    while time.monotonic() < deadline:
        if (await _leases(connection))[0]:
            victim.pause()
            if await _holds(connection):
                return
            victim.go_on()
        await asyncio.sleep(_GLANCE_SECONDS)
    victim.pause()


async def _holds(connection: Connection) -> bool:
    """Whether something that is leased now still is when everybody who is not paused has given theirs back."""
    leases, over_at = await _leases(connection), time.monotonic() + _OUTLAST_SECONDS
    while time.monotonic() < over_at:
        if not await connection.fetchval(SQL["still_leased"], *leases):
            return False
        await asyncio.sleep(_LOOK_SECONDS / 5)
    # It may have been paused within a transaction, and the others stand in line for what that has locked.
    return not await connection.fetchval(SQL["somebody_waits"])


async def _leases(connection: Connection) -> tuple[list[UUID], list[UUID]]:
    """All that is leased: the generations, and their tokens."""
    rows = await connection.fetch(SQL["leased"])
    return [row["id"] for row in rows], [row["lease_token"] for row in rows]


async def _read(database_url: str, course: Course) -> tuple[list[asyncpg.Record], list[str]]:
    """When what was seen; and what is not as it must be: lost, ended twice, charged twice, an audit that found rows."""
    connection = await open_connection(database_url)
    try:
        rows = await connection.fetch(SQL["seen"])
        broken = [f"{row['remote_id']} ended {row['ends']} times" for row in rows if row["ends"] != 2]
        charged = await connection.fetchrow(SQL["charged"])
        if charged is None or charged["holds"] != course.ends or charged["twice"]:
            broken.append(f"of {course.ends} holds were captured: {dict(charged or {})}")
        for name, statement in AUDITS.items():
            found = await connection.fetch(statement, 20)
            broken += [f"{name}: {len(found)} rows"] if found else []
        return rows, broken
    finally:
        await connection.close()
