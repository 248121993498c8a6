"""What a benchmark ran on."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from tests.bench.ground import Ground

_DURABILITY = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")


async def describe(ground: Ground) -> dict[str, Any]:
    """The machine, and what Postgres on it does about a commit."""
    connection = await asyncpg.connect(ground.server.url)
    try:
        settings = {name: await connection.fetchval(f"SHOW {name}") for name in _DURABILITY}
    finally:
        await connection.close()
    return {
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "postgres": settings,
        "file_system": _file_system(ground.folder),
    }


def _file_system(folder: Path) -> str | None:
    """The type of file system that Postgres flushes to; on tmpfs a flush costs nothing. None when unknown."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except FileNotFoundError:
        return None
    under = [(len(where), kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(under)[1] if under else None


def lines(machine: Mapping[str, Any]) -> Iterator[str]:
    """The same in two lines, for people."""
    settings = machine["postgres"]
    flags = ", ".join(f"{name} {value}" for name, value in settings.items() if name != "server_version")
    yield f"{machine['cpus']} CPUs (load {machine['load_average']:.1f} at the start), Python {machine['python']}"
    yield f"Postgres {settings['server_version']} on {machine['file_system'] or 'an unknown file system'}: {flags}"
