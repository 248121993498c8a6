"""The real SDK workers behind the gateway: child processes, started, watched, restarted and stopped."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.local import leashed
from tests.local.runpod.clock import Pulse
from tests.local.runpod.platform import Platform

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = {name: Path(__file__).parent / "handlers" / f"{name}.py" for name in ("text", "image", "modify", "video")}

PING_INTERVAL_MS = 1_000
FAREWELL_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LOOK_EVERY_SECONDS = 0.5
STEADY_SECONDS = 60.0
"""A worker that lived this long is restarted without a growing pause."""


@dataclass(frozen=True)
class Crew:
    """The workers of one endpoint, all running the same handler file."""

    endpoint_id: str
    handler: Path
    size: int = 1


class Stillborn(Exception):
    """A worker ended before it ever spoke to the gateway; the message says which and how."""


@dataclass(eq=False)
class _Running:
    """A worker's process: the pod it lives in."""

    crew: Crew
    process: subprocess.Popen[bytes]
    ended: "asyncio.Future[int]"
    refreshing: bool = False

    def refresh(self) -> None:
        """End it; another is started at once."""
        self.refreshing = True
        _kill_group(self.process)

    def crash(self) -> None:
        """End it as a crash would."""
        _kill_group(self.process)


class Fleet:
    """Keeps every crew at its size until stopped. Start it from the main thread."""

    def __init__(self, platform: Platform, url: str, crews: Iterable[Crew], *, say: Callable[[str], None]) -> None:
        self._platform = platform
        self._url = url
        self._crews = list(crews)
        self._say = say
        self._tasks: list[asyncio.Task[None]] = []
        self._running: set[_Running] = set()
        self._edited = {crew: Pulse() for crew in self._crews}
        self._stillborn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # One thread waits for each worker, one reads what it prints.
        self._threads = ThreadPoolExecutor(max_workers=2 * max(1, sum(crew.size for crew in self._crews)))

    def start(self) -> None:
        """Start every worker; returns at once."""
        for crew in self._crews:
            self._tasks.append(asyncio.create_task(self._watch(crew)))
            for number in range(1, crew.size + 1):
                name = f"{crew.endpoint_id}-{number}"
                self._tasks.append(asyncio.create_task(self._keep(crew, name, self._announce(crew, name))))

    async def stillborn(self) -> None:
        """Wait for a worker of the first generation to end unheard. Raises Stillborn, or waits for ever."""
        raise Stillborn(await self._stillborn)

    def all_seen(self) -> bool:
        """Whether every worker that is expected has spoken to the gateway."""
        return all(
            worker.seen_at is not None
            for endpoint in self._platform.endpoints.values()
            for worker in endpoint.workers.values()
        )

    async def stop(self) -> None:
        """Ask every worker to leave, and kill the process group of those that stay."""
        for task in self._tasks:
            task.cancel()
        for running in self._running:
            with suppress(ProcessLookupError):
                running.process.send_signal(signal.SIGTERM)
        if self._running:
            await asyncio.wait({running.ended for running in self._running}, timeout=FAREWELL_SECONDS)
        for running in self._running:
            _kill_group(running.process)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    def _announce(self, crew: Crew, name: str) -> str:
        worker_id = f"{name}-{secrets.token_hex(8)}"
        self._platform.expect(crew.endpoint_id, worker_id)
        return worker_id

    async def _keep(self, crew: Crew, name: str, worker_id: str) -> None:
        pause = FIRST_PAUSE_SECONDS
        first = True
        while True:
            began = time.monotonic()
            running, code = await self._live(crew, name, worker_id)
            if first and not running.refreshing and not self._heard(crew, worker_id):
                self._report_stillborn(f"worker {name} ended before it asked for work ({_why(code)}): {crew.handler}")
                return
            first = False
            if running.refreshing or time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            next_id = self._announce(crew, name)
            self._platform.dismiss(crew.endpoint_id, worker_id)
            worker_id = next_id
            if running.refreshing:
                self._say(f"worker {name} is replaced by a fresh one")
                continue
            self._say(f"worker {name} died ({_why(code)}); starting another in {pause:g} s")
            await self._edited[crew].wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _watch(self, crew: Crew) -> None:
        """Replace the crew's workers when its handler file has changed."""
        seen = _edited_at(crew.handler)
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            now = _edited_at(crew.handler)
            if now is None or now == seen:
                continue
            seen = now
            self._say(f"{crew.handler.name} has changed")
            for running in self._running:
                if running.crew is crew:
                    running.refresh()
            self._edited[crew].beat()

    def _heard(self, crew: Crew, worker_id: str) -> bool:
        return self._platform.expect(crew.endpoint_id, worker_id).seen_at is not None

    def _report_stillborn(self, words: str) -> None:
        if not self._stillborn.done():
            self._stillborn.set_result(words)

    async def _live(self, crew: Crew, name: str, worker_id: str) -> tuple[_Running, int]:
        loop = asyncio.get_running_loop()
        argv = [sys.executable, "-m", "tests.local.runpod.sdk_worker", str(crew.handler)]
        command = leashed.Command(argv, environment=self._environment(crew.endpoint_id, worker_id))
        process = leashed.start(command, subprocess.PIPE)
        running = _Running(crew, process, loop.run_in_executor(self._threads, process.wait))
        self._running.add(running)
        self._platform.expect(crew.endpoint_id, worker_id).pod = running
        loop.run_in_executor(self._threads, self._read_aloud, name, process)
        code = await asyncio.shield(running.ended)
        self._running.discard(running)
        _kill_group(process)
        return running, code

    def _read_aloud(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            with process.stdout:
                for line in process.stdout:
                    self._say(f"{name} | {line.decode(errors='replace').rstrip()}")

    def _environment(self, endpoint_id: str, worker_id: str) -> dict[str, str]:
        door = f"{self._url}/v2/{endpoint_id}"
        return {
            "RUNPOD_LOG_LEVEL": "INFO",
            **os.environ,
            "RUNPOD_AI_API_KEY": self._platform.rules.api_key,
            "RUNPOD_POD_ID": worker_id,
            "RUNPOD_WEBHOOK_GET_JOB": f"{door}/job-take/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{door}/job-done/$RUNPOD_POD_ID/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{door}/job-stream/$RUNPOD_POD_ID/$ID?gpu=CPU",
            "RUNPOD_WEBHOOK_PING": f"{door}/ping/$RUNPOD_POD_ID?gpu=CPU",
            "RUNPOD_PING_INTERVAL": str(PING_INTERVAL_MS),
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            # The SDK's pings honour proxies, and no proxy knows our loopback.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a worker's session: itself and its ping process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _edited_at(handler: Path) -> int | None:
    """When the file was written last; None while an editor has it away."""
    try:
        return handler.stat().st_mtime_ns
    except OSError:
        return None


def _why(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
