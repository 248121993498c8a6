"""Postgres's own load program, for the same database functions: no Python on the way."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from tests.bench.options import BenchFailed

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Log:
    """When the first transaction began and the last ended; of each when it ended and how many seconds it took."""

    began_at: float
    ended_at: float
    transactions: Sequence[Sequence[float]]


def find(programs: Path, *, installed: Path = Path("/usr/lib/postgresql")) -> Path | None:
    """pgbench beside the server's own programs, on PATH, or of the newest Postgres installed; None when nowhere."""
    on_path = shutil.which("pgbench")
    versions = sorted(installed.glob("*/bin/pgbench"), reverse=True)
    candidates = [programs / "pgbench", *([Path(on_path)] if on_path else []), *versions]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def run(
    program: Path,
    database_url: str,
    script: str,
    *,
    clients: int,
    threads: int,
    seconds: int,
    variables: Mapping[str, str],
) -> Log:
    """Run a script for so many seconds with so many clients. BenchFailed with what it said when it cannot."""
    parts = urlsplit(database_url)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    told = [f"--define={name}={value}" for name, value in variables.items()]
    size = [f"--client={clients}", f"--jobs={threads}", f"--time={seconds}"]
    with TemporaryDirectory() as folder:
        ended = subprocess.run(
            [program, "--no-vacuum", "--protocol=prepared", "--file=-", *size, *told, "--log"],
            input=script,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + _TIMEOUT_SECONDS,
            check=False,
        )
        lines = [line.split() for log in Path(folder).iterdir() for line in log.read_text().splitlines()]
    if ended.returncode != 0 or not lines:
        raise BenchFailed(f"pgbench failed ({ended.returncode}):\n{(ended.stdout + ended.stderr)[-1000:]}")
    # A line is: client, number, microseconds it took, script, and when it ended in seconds and microseconds.
    transactions = [(int(line[4]) + int(line[5]) / 1e6, int(line[2]) / 1e6) for line in lines]
    began_at = min(ended_at - took for ended_at, took in transactions)
    return Log(began_at, max(ended_at for ended_at, _ in transactions), transactions)
