"""The parts that are measured, each a process of its own on 127.0.0.1: started, waited for, killed, stopped again."""

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from subprocess import Popen, TimeoutExpired
from uuid import uuid4

import httpx

from tests.bench.options import BenchFailed
from tests.bench.programs import last_words
from tests.local import leashed

START_SECONDS = 30
STOP_SECONDS = 15
RUNPOD_KEY = "bench-key"


@dataclass(slots=True)
class Part:
    """One process, its log, and how to tell that it is ready."""

    name: str
    process: Popen[bytes]
    log: Path
    ready: Callable[[], bool]
    killed: bool = False

    @property
    def pid(self) -> int:
        """Of the program itself: what leashes it becomes it."""
        return self.process.pid

    def kill(self) -> None:
        """As kill -9, and gone when this returns; from now on its end is no failure."""
        self.killed = True
        self.process.send_signal(SIGKILL)
        self.process.wait(STOP_SECONDS)

    def pause(self) -> None:
        """It does nothing any more until `go_on`, and keeps what it has."""
        self.process.send_signal(SIGSTOP)

    def go_on(self) -> None:
        """From where it was paused."""
        self.process.send_signal(SIGCONT)

    def refuse_if_ended(self, when: str) -> None:
        """BenchFailed when it is not alive and nobody killed it."""
        if not self.killed and self.process.poll() is not None:
            raise BenchFailed(f"{self.name} ended {when}. Its last words:\n{last_words(self.log)}")


@contextmanager
def running(parts: Sequence[Part]) -> Iterator[None]:
    """Wait for parts that were started side by side, and stop them in the end; all have to live until then."""
    try:
        deadline = time.monotonic() + START_SECONDS
        for part in parts:
            while not part.ready():
                part.refuse_if_ended("before it was ready")
                if time.monotonic() > deadline:
                    raise BenchFailed(f"{part.name} did not start. Its last words:\n{last_words(part.log)}")
                time.sleep(0.05)
        yield
        for part in parts:
            part.refuse_if_ended("while it was measured")
    finally:
        for part in parts:
            part.process.terminate()
        for part in parts:
            # Asked once: a second SIGTERM would cut the drain short.
            with suppress(TimeoutExpired):
                part.process.wait(STOP_SECONDS)
            leashed.stop(part.process, SIGTERM, grace_seconds=0)


def start(
    folder: Path,
    name: str,
    argv: Sequence[str],
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> Part:
    """Start one; its log lies in the folder under its name."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = leashed.start(leashed.Command(argv, environment), output)
    return Part(name, process, log, ready)


def answers(url: str) -> Callable[[], bool]:
    """Ready when this address answers 200."""

    def answer() -> bool:
        try:
            return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return answer


def says(log: Path, words: str) -> Callable[[], bool]:
    """Ready when its log has these words."""
    return lambda: words in log.read_text(errors="replace")


def environment(folder: Path, *, database_url: str, redis_url: str, public_url: str) -> dict[str, str]:
    """What our API and workers are both told."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "TWIN_MODE": "local",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "TWIN_SECRET": "local:" + base64.b64encode(os.urandom(32)).decode(),
        "PUBLIC_URL": public_url,
        "STORAGE_URL": (folder / "media").as_uri(),
        "TWIN_QUEUE": f"bench:{uuid4().hex[:8]}",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
    }
