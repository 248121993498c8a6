"""Real worker processes, killed -9 at random, under bad weather: every generation ends, and is charged once.

The seed reproduces the weather and the moments of the kills: TWIN_CHAOS_SEED, TWIN_CHAOS_KILLS (README, Working on it).
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.flow.world import World, open_world, picture
from tests.local import leashed
from tests.local.runpod.app import Gateway
from tests.local.runpod.endpoints import Canned
from tests.local.serving import serve
from worker.sweep import MAXIMUM_ATTEMPTS

SEED = int(os.environ.get("TWIN_CHAOS_SEED", "20261124"))
KILLS = int(os.environ.get("TWIN_CHAOS_KILLS", "5"))
SUBMITS_BETWEEN_KILLS = 6
PRICE = 5
PATIENCE_SECONDS = 90


def environment(world: World, gateway: str) -> dict[str, str]:
    """What a worker process of this world is told; short leases, so that recovery takes seconds."""
    settings = world.context.settings
    return {
        "PATH": os.environ["PATH"],
        "TWIN_MODE": "local",
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "TWIN_SECRET": settings.secret.get_secret_value(),
        "PUBLIC_URL": settings.public_url,
        "STORAGE_URL": settings.storage_url,
        "TWIN_QUEUE": settings.queue_name,
        "RUNPOD_API_KEY": settings.runpod_api_key.get_secret_value(),
        "RUNPOD_BASE_URL": f"{gateway}/v2",
        **{f"RUNPOD_ENDPOINT_{kind.upper()}": kind for kind in ("text", "image", "modify", "video")},
        "TWIN_LEASE_SECONDS": "2",
        "TWIN_SUBMIT_GRACE_SECONDS": "2",
        "TWIN_IDLE_SECONDS": "0.3",
        "TWIN_LOST_GRACE_SECONDS": "2",
    }


@asynccontextmanager
async def worker(told: Mapping[str, str], log: Path) -> AsyncIterator[asyncio.Event]:
    """A real worker process that is killed -9 and started again when the event is set; ended politely at the end."""
    kill = asyncio.Event()

    async def live() -> None:
        with log.open("ab") as output:
            while True:
                process = leashed.start(leashed.Command([sys.executable, "-m", "worker"], told), output)
                try:
                    await kill.wait()
                    kill.clear()
                    os.killpg(process.pid, signal.SIGKILL)
                    await asyncio.to_thread(process.wait)
                except asyncio.CancelledError:
                    leashed.stop(process, signal.SIGTERM, grace_seconds=20)
                    raise

    living = asyncio.create_task(live())
    try:
        yield kill
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


def bad_weather(world: World) -> None:
    """Everything at once, now and then."""
    order = world.runpod.weather.order
    order("webhook_lost", probability=0.3, seed=SEED)
    order("webhook_doubled", probability=0.3, seed=SEED + 1)
    order("webhook_reordered", probability=0.2, seed=SEED + 2)
    order("timeout_after_accepting", operation="run", probability=0.05, seed=SEED + 3, seconds=1)
    order("dropped_before_accepting", operation="run", probability=0.05, seed=SEED + 4)
    order("dropped_after_accepting", operation="run", probability=0.1, seed=SEED + 5)
    order("server_error", operation="status", probability=0.1, seed=SEED + 6)
    order("rate_limited", operation="run", probability=0.1, seed=SEED + 7)


@pytest.mark.timeout(90 + 10 * KILLS)
async def test_killed_again_and_again(database_url: str, redis_url: str, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    short = timedelta(seconds=2)
    async with open_world(
        database_url=database_url, redis_url=redis_url, folder=tmp_path, manual_clock=False, lease=short
    ) as world:
        world.runpod.add_endpoint(
            "image", canned=Canned(lambda _: {"images": [picture()]}, run_seconds=0.3, queue_seconds=0.1)
        )
        bad_weather(world)
        person = await world.person(credits_granted=1000)
        asked = []
        async with (
            serve(Gateway(world.runpod)) as gateway,
            world.runpod.running(),
            worker(environment(world, gateway), tmp_path / "worker.log") as kill,
        ):
            for _ in range(KILLS):
                asked += [await world.ask(person) for _ in range(SUBMITS_BETWEEN_KILLS)]
                await _some_progress(world, seconds=dice.uniform(0.0, 1.0))
                kill.set()
            await _all_ended(world)
            counts = world.runpod.calls_to("run")
        states = [await world.state(generation_id) for generation_id in asked]
        charged = [await world.charged(generation_id) for generation_id in asked]
        assert set(states) <= {"completed", "failed"}, states
        assert [PRICE if state == "completed" else 0 for state in states] == charged
        assert await world.credits_of(person) == (1000 - PRICE * states.count("completed"), 0)
        assert states.count("completed") >= len(asked) * 0.8, "too many were given up for this weather"
        attempts = await world.value("SELECT count(*) FROM generation_attempts")
        assert len(counts) <= attempts, "RunPod was called without an attempt on record"
        most = await world.value(
            "SELECT max(n) FROM (SELECT count(*) AS n FROM generation_attempts "
            "WHERE outcome IN ('accepted', 'unknown') GROUP BY generation_id) AS each"
        )
        assert most <= MAXIMUM_ATTEMPTS


async def _some_progress(world: World, *, seconds: float) -> None:
    """Let a fresh worker live: until it has moved something, and then for a random moment, in which the kill falls."""
    moved = "SELECT count(*) FROM generation_transitions WHERE actor <> 'api'"
    before = await world.value(moved)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await world.value(moved) == before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)


async def _all_ended(world: World) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await world.value("SELECT count(*) FROM generations WHERE due_at IS NOT NULL"):
            await asyncio.sleep(0.05)
