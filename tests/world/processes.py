"""Which processes a world has: found by its folder, which all of them carry in their environment or command."""

import time
from pathlib import Path


def of_folder(folder: Path) -> dict[int, str]:
    """The living processes of a world by pid, whoever their parent is by now. Linux only."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        # A zombie has neither.
        marker = str(folder).encode()
        if f"TWIN_LOCAL_DIR={folder}".encode() in environment.split(b"\0") or marker in command:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def wait_until_none(folder: Path, *, seconds: float) -> dict[int, str]:
    """What is still alive when nothing is any more, or when the time is over."""
    deadline = time.monotonic() + seconds
    while (alive := of_folder(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive
