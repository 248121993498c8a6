"""One `python -m tests.local`, started as somebody would from a shell, and what it says."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.local.leashed import free_port

_CLONE = Path(__file__).parents[2]
_PATIENCE_SECONDS = 90
_SETTINGS = re.compile(r"(TWIN_|RUNPOD_|CLERK_|DATABASE_|REDIS_|PORT$|MAKE|PUBLIC_URL$|STORAGE_URL$)")


class Run:
    """One `python -m tests.local` and what it says."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        self.port = int(settings.get("PORT") or free_port())
        told = {**settings, "TWIN_LOCAL_DIR": str(folder), "PORT": str(self.port)}
        inherited = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.local", *arguments],
            cwd=folder.parent,  # so that nobody's .env counts
            env={**inherited, **told, "PYTHONPATH": str(_CLONE)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def until(self, text: str) -> str:
        """The next line with that text; fails with all that was said when it does not come."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        with suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
                self.said.append(line)
                if text in line:
                    return line
        raise AssertionError(f"it never said {text!r} but:\n" + "\n".join(self.said))

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        while (line := self._lines.get(timeout=_PATIENCE_SECONDS)) is not None:
            self.said.append(line)
        return self.process.wait(_PATIENCE_SECONDS)

    def stop(self) -> None:
        """End it if it still lives."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(_PATIENCE_SECONDS)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Ask the API something that has to work."""
        url = f"http://127.0.0.1:{self.port}{path}"
        reply = httpx.request(method, url, timeout=20, trust_env=False, **options)
        assert reply.is_success, reply.text
        return reply.json()

    def signed_in(self, user_id: str = "user_demo", *, role: str | None = None) -> dict[str, str]:
        """Somebody's headers; the demo person's when nobody is named."""
        session = self.ask("POST", "/v1/dev/sessions", json={"user_id": user_id, "role": role})
        return {"authorization": f"Bearer {session['token']}"}

    def available(self) -> int:
        """The demo person's credits."""
        balance: dict[str, int] = self.ask("GET", "/v1/credits", headers=self.signed_in())
        return balance["available"]

    def weather(self, *orders: str) -> str:
        """What `twin weather` says from a second terminal."""
        return subprocess.check_output(
            [sys.executable, "-m", "api.cli", "weather", *orders],
            cwd=self.folder.parent,
            env={"PYTHONPATH": str(_CLONE), "TWIN_LOCAL_DIR": str(self.folder)},
            text=True,
        )

    def pid_of(self, part: str) -> int:
        """The process of one of its parts."""
        pid: int = json.loads((self.folder / "running.json").read_text())[part][0]
        return pid
