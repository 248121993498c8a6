"""`twin` as people run it: the installed program, told its database and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("twin")
PATH = os.environ["PATH"]


def run(database_url: str | None, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    told = {"PATH": PATH} if database_url is None else {"PATH": PATH, "DATABASE_URL": database_url}
    return subprocess.run(
        [str(PROGRAM), *arguments], env=told, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_group_of_commands_runs_with_a_database_url_alone(database_url: str, tmp_path: Path) -> None:
    for arguments, expected in (
        (("grant", "user_1", "40", "--source-ref", "s", "--actor", "cli:ops"), "40 promo credits"),
        (("person", "set", "user_1", "--policy", "hard"), "policy - -> hard"),
        (("plan", "set", "pro", "--daily-credits", "5"), "pro: made."),
        (("price", "add", "text", "1"), "Version"),
        (("operations",), "set-terms"),
        (("verify",), "No findings. 1 accounts,"),
    ):
        done = run(database_url, *arguments, folder=tmp_path)
        assert (done.returncode, expected in done.stdout) == (0, True), (arguments, done)


def test_programs_read_json(database_url: str, tmp_path: Path) -> None:
    done = run(database_url, "grant", "user_2", "7", "--source-ref", "s", "--json", folder=tmp_path)
    assert json.loads(done.stdout)["balance"]["available"] == 7
    refused = run(database_url, "adjust", "user_2", "-8", "--reason", "r", "--key", "k2", "--json", folder=tmp_path)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "only 7 credits can be taken\n")


@pytest.mark.parametrize(
    ("database_url_given", "code", "said"),
    [
        (None, 2, "DATABASE_URL: is not set."),
        ("mysql://somewhere", 2, "DATABASE_URL: is not one"),
        ("postgresql://user:se/cret@host/db", 2, "DATABASE_URL: is not one"),
        ("postgresql://nobody@127.0.0.1:1/none", 3, "cannot be reached"),
    ],
)
def test_without_its_database(database_url_given: str | None, code: int, said: str, tmp_path: Path) -> None:
    done = run(database_url_given, "verify", folder=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "cret" not in done.stderr


def test_a_database_that_does_not_exist(database_url: str, tmp_path: Path) -> None:
    done = run(f"{database_url}_none", "verify", folder=tmp_path)
    assert (done.returncode, "does not exist" in done.stderr) == (2, True)


def test_a_schema_that_does_not_fit_is_left_alone(empty_database_url: str, tmp_path: Path) -> None:
    done = run(empty_database_url, "grant", "user_1", "5", "--source-ref", "s", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "run: python -m migrations" in done.stderr
