"""The supervisor, with parts small enough to watch: it reports what fails, restarts what dies, stops all it started."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from tests.local.folder import Folder, FolderInUse
from tests.local.leashed import Command
from tests.local.supervisor import Part, PartFailed, Supervisor
from tests.world.processes import of_folder, wait_until_none


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setenv("TWIN_LOCAL_DIR", str(tmp_path))
    opened = Folder.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def supervisor(folder: Folder) -> Iterator[Supervisor]:
    started = Supervisor(folder, colours=False)
    yield started
    started.stop()


def part(name: str, script: str, tmp_path: Path) -> Part:
    """A part that is ready when it has written a file of its name."""
    ready = tmp_path / name
    code = f"import pathlib, time\n{script}\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)"
    return Part(name, Command([sys.executable, "-c", code]), lambda _: ready.exists())


def test_a_part_that_does_not_start_is_named_with_its_last_words(supervisor: Supervisor, tmp_path: Path) -> None:
    good = part("good", "", tmp_path)
    bad = part("bad", "raise SystemExit('no disk left')", tmp_path)
    supervisor.start(good, bad)
    supervisor.wait(good)
    with pytest.raises(PartFailed, match=r"bad did not start: it exited with code 1(.|\n)*no disk left"):
        supervisor.wait(bad)
    supervisor.stop()
    assert wait_until_none(tmp_path, seconds=1) == {}


def test_a_part_that_dies_later_is_started_again(
    supervisor: Supervisor, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lives = tmp_path / "lives"
    part_that_dies = part("mortal", f"open({str(lives)!r}, 'a').write('x')", tmp_path)
    supervisor.start(part_that_dies)
    supervisor.wait(part_that_dies)
    (pid,) = of_folder(tmp_path)
    os.kill(pid, SIGKILL)

    def stop_when_it_lives_again() -> None:
        while lives.read_text() != "xx":
            time.sleep(0.02)
        supervisor.request_stop()

    watcher = threading.Thread(target=stop_when_it_lives_again)
    watcher.start()
    supervisor.watch()
    watcher.join()
    assert re.search(r"mortal was ended by SIGKILL after \d+ s; starting it again in 1 s", capfd.readouterr().out)


def test_a_folder_has_one_world_at_a_time(folder: Folder) -> None:
    with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()}"):
        Folder.open(folder.path)


def test_what_a_killed_world_left_is_ended_but_not_whoever_has_its_pid_now(folder: Folder, tmp_path: Path) -> None:
    survivor = Supervisor(folder, colours=False)
    left = part("left", "", tmp_path)
    survivor.start(left)
    survivor.wait(left)
    running = folder.path / "running.json"
    running.write_text(json.dumps({**json.loads(running.read_text()), "reused": [os.getpid(), "long ago"]}))
    assert folder.end_leftovers() == ["left"]
    survivor.stop()


def test_secrets_are_made_once_and_for_us_alone(folder: Folder) -> None:
    assert folder.secret("postgres") == folder.secret("postgres") != folder.secret("valkey")
    assert folder.signing_secret().startswith("local:")
    for file in (folder.path / "secrets").iterdir():
        assert file.stat().st_mode & 0o077 == 0
