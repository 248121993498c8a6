"""A handler of the user's own: refused when it does not start, served anew when it is edited."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.local_runpod.program import started


@pytest.mark.parametrize(
    ("source", "why"), [("raise ValueError('no model')", "exit code 1"), ("print('no worker')", "exit code 0")]
)
def test_a_handler_that_does_not_start_ends_the_program_with_its_words(tmp_path: Path, source: str, why: str) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text(source)
    argv = [sys.executable, "-m", "tests.local.runpod", "--port=0", f"--endpoint=image={handler}"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"worker image-1 ended before it asked for work ({why}): {handler}" in ended.stdout
    assert source.partition("'")[2].rstrip("')") in ended.stdout


def test_a_handler_that_is_edited_is_served_anew(tmp_path: Path) -> None:
    source = "import runpod\nrunpod.serverless.start({'handler': lambda job: 'before'})\n"
    handler = tmp_path / "handler.py"
    handler.write_text(source)
    with started(f"image={handler}") as program:
        assert program.made("image", prompt="hi")["output"] == "before"
        handler.write_text(source.replace("before", "after"))
        for _ in range(100):
            if program.made("image", prompt="hi")["output"] == "after":
                break
        else:
            pytest.fail("the old handler went on serving")
