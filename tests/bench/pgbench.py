"""The same two database functions called by pgbench, Postgres's own load program: no Python on the way."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.bench.options import BenchFailed

_TIMEOUT_SECONDS = 30
# The statements of shared/ledger.sql. Every client has an account of its own (people.py), and the hold takes the
# generation's id, so that one answer carries what the next statement needs.
_SCRIPT = Path(__file__).with_name("pair.sql")


def find(programs: Path, *, installed: Path = Path("/usr/lib/postgresql")) -> Path | None:
    """pgbench beside the server's own programs, on PATH, or of the newest Postgres installed; None when nowhere."""
    on_path = shutil.which("pgbench")
    versions = sorted(installed.glob("*/bin/pgbench"), reverse=True)
    candidates = [programs / "pgbench", *([Path(on_path)] if on_path else []), *versions]
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def pairs_per_second(program: Path, database_url: str, *, clients: int, seconds: int) -> float:
    """Run the pair for so many seconds with so many clients. BenchFailed with what it said when it cannot."""
    parts = urlsplit(database_url)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    threads = min(clients, os.cpu_count() or 1)
    run = subprocess.run(
        [program, "-n", "-M", "prepared", "-c", str(clients), "-j", str(threads), "-T", str(seconds), "-f", _SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds + _TIMEOUT_SECONDS,
        check=False,
    )
    found = re.search(r"^tps = ([0-9.]+) \(without initial connection time\)", run.stdout, re.MULTILINE)
    failed = re.search(r"number of failed transactions: (\d+)", run.stdout)
    if run.returncode != 0 or found is None or (failed is not None and failed[1] != "0"):
        raise BenchFailed(f"pgbench failed ({run.returncode}):\n{(run.stdout + run.stderr)[-1000:]}")
    return float(found[1])
