"""A handler of the user's own: refused when it does not start, served anew when it is edited."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.local_runpod.program import eventually, started


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


def saying(word: str) -> str:
    return f"import runpod\nrunpod.serverless.start({{'handler': lambda job: {word!r}}})\n"


def test_a_handler_that_is_edited_is_served_anew_even_after_a_slip(tmp_path: Path) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text(saying("before"))
    with started(f"image={handler}") as program:
        assert program.made("image", prompt="hi")["output"] == "before"
        handler.write_text("raise ValueError('a slip')")
        program.until("died (exit code 1)")
        handler.write_text(saying("after"))
        assert program.made("image", prompt="hi")["output"] == "after"


def test_a_handler_that_is_edited_while_it_loads_is_not_refused(tmp_path: Path) -> None:
    handler, loading = tmp_path / "handler.py", tmp_path / "loading"
    handler.write_text(f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(600)")

    def edit() -> None:
        eventually(loading.exists)
        handler.write_text(saying("at last"))

    editor = threading.Thread(target=edit)
    editor.start()
    with started(f"image={handler}") as program:
        editor.join()
        assert program.made("image", prompt="hi")["output"] == "at last"
