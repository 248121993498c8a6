"""Child processes that cannot outlive us: started through `leash.py`, stopped politely and then not."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LEASH = Path(__file__).with_name("leash.py")


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
    leash = [sys.executable, "-I", "-S", str(_LEASH)]
    ties = [os.getpid(), int(command.orphaned), user.uid, user.gid, int(user.reach)]
    return subprocess.Popen(
        [*leash, *map(str, ties), "--", *command.argv],
        env=None if command.environment is None else dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], farewell: signal.Signals, *, grace_seconds: float) -> None:
    """Ask, wait for the grace, kill what is left of its process group. Safe on a dead process."""
    if process.poll() is None:
        process.send_signal(farewell)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
