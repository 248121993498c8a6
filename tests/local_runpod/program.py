"""The gateway as a program of its own, for tests: started, asked and stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.local import leashed

PATIENCE_SECONDS = 60
KEY = "key-of-this-test"
ENDLESS = Path(__file__).parent / "peers" / "endless.py"


@dataclass
class Program:
    process: subprocess.Popen[bytes]
    url: str
    http: httpx.Client
    said: list[str]

    def until(self, words: str) -> None:
        """Wait until the program has said these words."""
        eventually(lambda: any(words in line for line in self.said))

    def made(self, endpoint_id: str, **asked: Any) -> dict[str, Any]:
        """Run one job to its end."""
        answer = self.http.post(f"/{endpoint_id}/runsync?wait=60000", json={"input": asked})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def next_chunk(self, job_id: str) -> Any:
        """Wait for what the job streams next; None when it has ended."""
        while True:
            seen = self.http.get(f"/endless/stream/{job_id}?wait=20000").json()
            if seen["stream"]:
                return seen["stream"][0]["output"]
            if seen["status"] not in {"IN_QUEUE", "IN_PROGRESS"}:
                return None


def eventually(look: Callable[[], object]) -> None:
    """Wait until there is something to see."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


@contextmanager
def started(*endpoints: str) -> Iterator[Program]:
    argv = [sys.executable, "-m", "tests.local.runpod", "--port=0", f"--api-key={KEY}"]
    argv += [f"--endpoint={endpoint}" for endpoint in endpoints]
    environment = dict(os.environ) | {"TWIN_HANDLER_PACE_SECONDS": "0"}
    process = leashed.start(leashed.Command(argv, environment=environment), subprocess.PIPE)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.decode())
        if "is ready" in lines[-1]:
            break
    else:
        pytest.fail("".join(lines))
    reading = threading.Thread(target=lambda stream: lines.extend(map(bytes.decode, stream)), args=(process.stdout,))
    reading.start()
    url = lines[-1].partition("ready: ")[2].partition(",")[0]
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as http:
        yield Program(process, url, http, lines)
    leashed.stop(process, signal.SIGTERM, grace_seconds=10)
    reading.join()
    process.stdout.close()
