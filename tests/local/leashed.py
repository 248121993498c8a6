"""Child processes that cannot outlive us: started through `leash.py`, stopped politely and then not."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from tests.local import leash


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


def follow_parent() -> None:
    """Ask the kernel to end us politely when our own parent (make) is gone; elsewhere than on Linux nothing."""
    if sys.platform == "linux":
        leash.end_with_parent(signal.SIGTERM)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
