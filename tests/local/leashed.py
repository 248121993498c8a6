"""Child processes that cannot outlive us: started through `leash.py`, stopped politely and then not."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.local import leash

_GLANCE_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class User:
    """Somebody without root's rights; `reach` lets them through folders only root may enter."""

    uid: int
    gid: int
    reach: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `farewell` asks it to stop; `orphaned` is what it gets when we die without a word."""

    argv: Sequence[str]
    environment: Mapping[str, str] | None = None
    user: User | None = None
    farewell: signal.Signals = signal.SIGTERM
    orphaned: signal.Signals = signal.SIGTERM


def start(command: Command, output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that the terminal's Ctrl-C reaches us alone.

    Call from the main thread: the kernel's leash is on the thread that forks.
    """
    user = command.user or User(-1, -1)
    tie = [sys.executable, "-I", "-S", leash.__file__]
    terms = [os.getpid(), int(command.orphaned), user.uid, user.gid, int(user.reach)]
    return subprocess.Popen(
        [*tie, *map(str, terms), "--", *command.argv],
        env=None if command.environment is None else dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], farewell: signal.Signals, *, grace_seconds: float) -> None:
    """Ask, wait for the grace, kill what is left of its process group. Safe when dead."""
    if process.poll() is None:
        process.send_signal(farewell)
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def follow_make(stop: Callable[[], None]) -> None:
    """Call `stop` when the make that started us is told to stop, and end with it; Linux only, elsewhere nothing.

    make passes SIGTERM on, but on a SIGINT or SIGHUP sent to it alone (not to the terminal's whole group) it waits for
    us in its signal handler, silently and for ever. That it is there shows in its signal mask.
    """
    if sys.platform == "linux":
        leash.end_with_parent(signal.SIGTERM)
        threading.Thread(target=_watch_make, args=(os.getppid(), stop), name="follow-make", daemon=True).start()


def _watch_make(make: int, stop: Callable[[], None]) -> None:
    handling = 1 << (signal.SIGINT - 1) | 1 << (signal.SIGHUP - 1)
    with suppress(OSError):
        while True:
            status = Path(f"/proc/{make}/status").read_text()
            blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
            if int(blocked.split()[1], 16) & handling:
                stop()
                return
            time.sleep(_GLANCE_SECONDS)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody holds at this moment.

    None of those that the system hands out by itself (32768 and up): whoever calls somebody gets one, at any moment.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("none of a hundred ports is free")
