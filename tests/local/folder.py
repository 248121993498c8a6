"""The folder a local world lives in (`.local/`): its lock, its secrets, and who it has running."""

import base64
import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import IO, Self

from shared.settings import LOCAL_KEY_ID

RUNPOD_URL = "runpod.url"
"""Where the local RunPod was started last."""

_LEFTOVER_GRACE_SECONDS = 5


class FolderInUse(Exception):
    """Another world lives there, or we may not write there."""


class Folder:
    """An opened folder: ours until `close` or the end of this process, however it comes."""

    def __init__(self, path: Path, lock: IO[str]) -> None:
        self.path = path
        self._lock = lock
        self._running = path / "running.json"

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make it if need be and lock it. FolderInUse says by whom, or what is wrong."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            # Others may pass (as root, Postgres runs as somebody else) but not look around; secrets are 0600.
            path.chmod(0o711)
            lock = (path / "lock").open("a+")
        except OSError as error:
            raise FolderInUse(f"{path} cannot be used: {error.strerror}; TWIN_LOCAL_DIR names another") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise FolderInUse(
                f"{path} is in use by process {holder}: stop that one, or give this one a folder"
                " and a port of its own: make run TWIN_LOCAL_DIR=.local-2 PORT=8001"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        return cls(path, lock)

    def close(self) -> None:
        """Let somebody else have it."""
        self._lock.truncate(0)
        self._lock.close()

    def part(self, name: str) -> Path:
        """A private folder inside."""
        inner = self.path / name
        inner.mkdir(mode=0o700, exist_ok=True)
        return inner

    def secret(self, name: str) -> str:
        """A random token, made the first time and kept."""
        return self._kept(f"{name}.secret", lambda: token_hex(24))

    def signing_secret(self) -> str:
        """`TWIN_SECRET`, with the key id that production refuses."""
        return self._kept("signing.secret", lambda: f"{LOCAL_KEY_ID}:{base64.b64encode(token_bytes(32)).decode()}")

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.part("secrets") / name
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(make())
            fresh.rename(path)
        return path.read_text()

    def note(self, name: str, text: str) -> None:
        """Leave a line for other programs to find: where something listens in this world."""
        (self.path / name).write_text(text)

    def record(self, name: str, pid: int) -> None:
        """Remember a child, so that the next start finds it should it survive us."""
        running = {**self._recorded(), name: [pid, _born(pid)]}
        self._running.write_text(json.dumps(running))

    def end_leftovers(self) -> list[str]:
        """End the children of a world that died here without a word; return their names."""
        ended = []
        for name, (pid, born) in self._recorded().items():
            if born and _born(pid) == born:
                _end(pid, born)
                ended.append(name)
        self._running.unlink(missing_ok=True)
        return ended

    def _recorded(self) -> dict[str, tuple[int, str]]:
        try:
            recorded: dict[str, tuple[int, str]] = json.loads(self._running.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return recorded


def _born(pid: int) -> str:
    """When a process began, as this system says it; empty when there is none. A pid alone may be reused."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return ""
        answer = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return answer.stdout.strip()
    return "" if fields[0] == "Z" else fields[19]


def _end(pid: int, born: str) -> None:
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _LEFTOVER_GRACE_SECONDS / 2
        while time.monotonic() < deadline:
            if _born(pid) != born:
                return
            time.sleep(0.05)
