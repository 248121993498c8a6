"""`make peers` runs the commit that we know, and no other."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.local_runpod.peers.pinned import NotPinned, require

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *words: str) -> str:
    somebody = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")
    return subprocess.check_output(["git", "-C", str(folder), *somebody, *words], text=True).strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with one commit."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "handler.py").write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    return tmp_path


def test_a_clone_at_its_commit_is_taken_and_at_another_is_not(clone: Path) -> None:
    first = git(clone, "rev-parse", "HEAD")
    require(clone, first)
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "two")
    second = git(clone, "rev-parse", "HEAD")
    with pytest.raises(NotPinned, match=f"is at {second}, and not at {first}"):
        require(clone, first)


def test_a_clone_that_was_changed_is_not_the_commit_that_it_is_at(clone: Path) -> None:
    first = git(clone, "rev-parse", "HEAD")
    (clone / "handler.py").write_text("two")
    with pytest.raises(NotPinned, match=r"changed:\n.*handler\.py"):
        require(clone, first)


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "handler.py").write_text("one")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotPinned, match="is at no commit"):
            require(folder, "0" * 40)
