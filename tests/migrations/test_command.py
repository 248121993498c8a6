"""`python -m migrations`, as people and compose.yaml run it."""

import os
import subprocess
import sys

from shared.schema import known_migrations


def run(database_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "migrations"],
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_says_what_it_applied_and_then_that_nothing_is_left(empty_database_url: str) -> None:
    first = run(empty_database_url)
    assert first.returncode == 0
    assert [f"applied {migration.label}" for migration in known_migrations()] == first.stdout.splitlines()[:-1]
    assert run(empty_database_url).stdout == "The schema was up to date already.\n"


def test_needs_to_be_told_which_database() -> None:
    answer = run("")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "DATABASE_URL is not set" in answer.stderr


def test_an_unreachable_database_is_a_sentence_not_a_traceback() -> None:
    answer = run("postgresql://nobody@127.0.0.1:1/none")
    assert answer.returncode == 1
    assert "could not be migrated" in answer.stderr
    assert "Traceback" not in answer.stderr
