"""CPU seconds of processes, as the kernel counts them in /proc; nothing is known elsewhere than on Linux."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def used(families: Mapping[str, Iterable[int]]) -> dict[str, float] | None:
    """CPU seconds so far of each family: the named processes, their children, and the children that have ended.

    None where there is no /proc.
    """
    if not Path("/proc/self/stat").exists():
        return None
    children: dict[int, list[list[str]]] = {}
    own: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(entry)) is not None:
            own[int(entry.name)] = fields
            children.setdefault(int(fields[1]), []).append(fields)
    return {
        name: sum(_family_seconds(own.get(pid), children.get(pid, ())) for pid in pids)
        for name, pids in families.items()
    }


def _stat(process: Path) -> list[str] | None:
    """The fields of stat after the name, which may hold anything: state, ppid, …"""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _family_seconds(process: list[str] | None, children: Iterable[list[str]]) -> float:
    if process is None:
        return 0.0
    # utime and stime, and cutime and cstime of the children that were waited for.
    ticks = sum(map(int, process[11:15])) + sum(sum(map(int, child[11:13])) for child in children)
    return ticks * _TICK_SECONDS


def spent(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> dict[str, float] | None:
    """What was used between two readings; None when either is unknown."""
    if before is None or after is None:
        return None
    return {name: after[name] - seconds for name, seconds in before.items()}
