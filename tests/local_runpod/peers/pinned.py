"""Whether a clone is at the commit that we know: what another one does, nobody here has looked at."""

import subprocess
from pathlib import Path


class NotPinned(Exception):
    """The folder is not a clone at that commit, untouched; the message says what it is instead."""


def require(folder: Path, commit: str) -> None:
    """Raises NotPinned unless git says that the folder is at this commit and nothing of it was changed."""
    found = _git(folder, "rev-parse", "HEAD")
    if found != commit:
        raise NotPinned(f"{folder} is at {found or 'no commit'}, and not at {commit}")
    if changed := _git(folder, "status", "--porcelain"):
        raise NotPinned(f"{folder} is at {commit}, but changed:\n{changed}")


def _git(folder: Path, *words: str) -> str:
    """What git says of the folder; nothing when it is no clone, or there is no such folder."""
    asked = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    return asked.stdout.strip()
