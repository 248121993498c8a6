"""`python -m tests.local.runpod` as a user starts it: real SDK workers, the official client, over TCP."""

import base64
import io
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import runpod
from PIL import Image
from typer.testing import CliRunner, Result

from api.cli.app import app
from tests.local import leashed
from tests.local.folder import RUNPOD_URL
from tests.local.runpod.__main__ import crews_from
from tests.local.runpod.handlers.pictures import as_data_uri
from tests.local_runpod.conformance import conforms
from tests.local_runpod.program import ENDLESS, KEY, Program, started


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with started("text", "image", "modify", "video", f"endless={ENDLESS}") as program:
        yield program


def picture(data_uri: str) -> Image.Image:
    kind, _, data = data_uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


class Terminal:
    """`twin weather` in a terminal that knows no database; without a folder TWIN_LOCAL_DIR is not set."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def know(self, url: str, key: str) -> None:
        """Leave what a world leaves behind in its folder."""
        assert self._folder is not None
        (self._folder / "secrets").mkdir(parents=True, exist_ok=True)
        (self._folder / "secrets" / "runpod.secret").write_text(key)
        (self._folder / RUNPOD_URL).write_text(url)

    def __call__(self, *words: str) -> str:
        """What is printed for these words."""
        done = self._run(*words)
        assert done.exit_code == 0, done.output
        return done.stdout.removesuffix("\n")

    def refused(self, *words: str) -> str:
        """The sentence with which they are refused."""
        done = self._run(*words)
        assert (done.exit_code, done.stdout) == (1, "")
        return done.stderr

    def _run(self, *words: str) -> Result:
        told = {"DATABASE_URL": None, "TWIN_LOCAL_DIR": None if self._folder is None else str(self._folder)}
        return CliRunner().invoke(app, ["weather", *words], prog_name="twin", env=told)


def test_it_is_healthy_once_every_worker_has_spoken(program: Program) -> None:
    site = program.url.removesuffix("/v2")
    assert program.http.get(f"{site}/healthz").json() == {"waiting_for": []}
    assert program.http.get("/text/health").json()["workers"]["idle"] == 1


def test_text_answers_with_the_words_of_the_prompt(program: Program) -> None:
    asked = {"prompt": "Why do lighthouses fascinate sailors?", "batch_size": 2}
    seen = program.made("text", **asked, seed=11)
    assert seen["status"] == "COMPLETED"
    (body,) = seen["output"]
    answers = [choice["tokens"][0] for choice in body["choices"]]
    assert all("lighthouses" in answer.lower() or "sailors" in answer.lower() for answer in answers)
    assert body["usage"] == {"input": 5, "output": sum(len(answer.split()) for answer in answers)}
    # Each item has the seed after the one before it.
    again = [choice["tokens"][0] for choice in program.made("text", **asked, seed=12)["output"][0]["choices"]]
    assert again[0] == answers[1]
    assert len({*answers, *again}) == 3


def test_a_text_comes_piece_by_piece_and_is_whole_in_the_end(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real SDK's generator handler behind the real client's stream."""
    monkeypatch.setattr(runpod, "endpoint_url_base", program.url)
    job = runpod.Endpoint("text", api_key=KEY).run({"input": {"prompt": "Why do lighthouses fascinate?", "seed": 1}})
    pieces = list(job.stream())
    assert len(pieces) > 10
    assert job.output() == pieces
    text = "".join(token for piece in pieces for choice in piece["choices"] for token in choice["tokens"])
    assert "lighthouses" in text.lower()


def test_a_text_can_be_asked_to_break_off(program: Program) -> None:
    broken = program.made("text", prompt="lighthouses [broken]", seed=1)
    assert broken["status"] == "FAILED"
    assert "breaks off" in broken["error"]
    assert "output" not in broken


def test_images_are_drawn_from_prompt_and_seed(program: Program) -> None:
    output = program.made("image", prompt="mountains at night", batch_size=2, seed=3)["output"]
    assert output["seed"] == 3
    assert [picture(uri).size for uri in output["images"]] == [(512, 512)] * 2
    again = program.made("image", prompt="mountains at night", seed=4)["output"]["images"]
    assert again == output["images"][1:] != output["images"][:1]


def test_modified_images_look_different(program: Program) -> None:
    red = Image.merge("RGB", [Image.linear_gradient("L"), *[Image.new("L", (256, 256))] * 2])
    asked = {"prompt": "black and white", "seed": 1, "image": as_data_uri(red)}
    first, second = program.made("modify", **asked, batch_size=2)["output"]["images"]
    assert picture(first).size == (256, 256)
    bands = {band.tobytes() for band in picture(first).split()}
    assert len(bands) == 1
    assert program.made("modify", **asked | {"seed": 2})["output"]["images"] == [second]
    assert second != first


def test_what_is_no_picture_fails_the_job(program: Program) -> None:
    seen = program.made("modify", prompt="blur", image="data:image/png;base64,aGVsbG8=")
    assert seen["status"] == "FAILED"
    assert json.loads(seen["error"])["error_type"] == "<class 'ValueError'>"


def test_a_video_is_a_loop(program: Program) -> None:
    asked = {"prompt": "city at night", "seed": 5, "width": 96, "height": 64}
    (video,) = program.made("video", **asked)["output"]["videos"]
    assert video["type"] == "base64"
    assert video["filename"].endswith(".webp")
    film = Image.open(io.BytesIO(base64.b64decode(video["data"])))
    assert (film.size, getattr(film, "n_frames", 1) > 20) == ((96, 64), True)
    assert program.made("video", **asked)["output"]["videos"] == [video]


def test_trouble_can_be_asked_for_in_the_prompt(program: Program) -> None:
    failed = program.made("image", prompt="hello [fail]")
    assert failed["status"] == "FAILED"
    assert json.loads(failed["error"])["error_message"] == "the prompt asked for a failure"

    partial = program.made("image", prompt="hello [partial]", batch_size=3, width=64, height=64)["output"]
    assert (len(partial["images"]), len(partial["errors"])) == (2, 1)

    soft = program.made("video", prompt="hello [soft-error]", width=64, height=64)
    assert soft["status"] == "COMPLETED"
    assert "error" in soft["output"][0]

    assert program.made("text", prompt="hello [slow]", seed=1)["status"] == "COMPLETED"
    assert program.made("text", prompt=" ")["status"] == "FAILED"


@conforms("cancel-worker")
def test_the_official_client_runs_cancels_and_asks_for_health(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What RUNPOD_ENDPOINT_BASE_URL sets when the SDK is imported.
    monkeypatch.setattr(runpod, "endpoint_url_base", program.url)
    text = runpod.Endpoint("text", api_key=KEY)
    job = text.run({"input": {"prompt": "a long way home", "seed": 4}})
    pieces = job.output(timeout=60)
    assert job.status() == "COMPLETED"
    assert text.run_sync({"prompt": "a long way home", "seed": 4}) == pieces
    assert text.health()["jobs"]["completed"] >= 2
    assert text.purge_queue() == {"removed": 0, "status": "completed"}

    endless = runpod.Endpoint("endless", api_key=KEY)
    running = endless.run({"input": {"stop": False}})
    pid = program.next_chunk(running.job_id)
    assert running.status() == "IN_PROGRESS"
    assert running.cancel() == {"id": running.job_id, "status": "CANCELLED"}
    assert running.status() == "CANCELLED"

    # The worker was told to stop that job, and serves the next one.
    streamed = endless.run({"input": {"stop": True}})
    assert list(streamed.stream()) == [pid]

    with pytest.raises(RuntimeError, match="401"):
        runpod.Endpoint("text", api_key="wrong").health()


@conforms("failed-lost")
def test_a_job_whose_worker_is_killed_twice_fails(program: Program) -> None:
    job_id = program.http.post("/endless/run", json={"input": {"stop": False}}).json()["id"]
    first = program.next_chunk(job_id)
    os.kill(first, signal.SIGKILL)
    second = program.next_chunk(job_id)
    assert second != first
    assert program.http.get(f"/endless/status/{job_id}").json()["retries"] == 1
    os.kill(second, signal.SIGKILL)
    assert program.next_chunk(job_id) is None
    seen = program.http.get(f"/endless/status/{job_id}").json()
    assert (seen["status"], seen["error"]) == ("FAILED", "job timed out after 1 retries")


@pytest.mark.parametrize(
    ("trouble", "seconds", "error"),
    [
        ("timeout_after_accepting", 60, httpx.ReadTimeout),
        ("timeout_after_accepting", 0.01, httpx.RemoteProtocolError),
        ("dropped_before_accepting", 0, httpx.RemoteProtocolError),
    ],
)
def test_over_tcp_a_call_can_stay_without_an_answer(
    program: Program, trouble: str, seconds: float, error: type[Exception]
) -> None:
    order = {"trouble": trouble, "endpoint": "text", "operation": "health", "seconds": seconds, "count": 1}
    assert program.http.post(f"{program.url.removesuffix('/v2')}/weather", json=order).status_code == 200
    with pytest.raises(error):
        program.http.get("/text/health", timeout=0.2)
    assert program.http.get("/text/health").status_code == 200


def test_the_weather_is_changed_from_a_terminal(program: Program, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    assert "`make run` starts one" in terminal.refused()
    terminal.know(program.url.removesuffix("/v2"), KEY)

    assert terminal("text", "paused", "x2", "image", "slow=1") == "text paused x2\nimage slow=1"
    assert program.http.post("/text/run", json={"input": {"prompt": "hi"}}).status_code == 409
    assert terminal() == "text paused x1\nimage slow=1"
    assert terminal("clear", "all forgotten") == "all forgotten"
    assert "no-capacity" in terminal("help")
    assert "Weather unchanged: 'frogs' is neither an endpoint (all, text, image" in terminal.refused("clear", "frogs")
    assert terminal() == "all forgotten"
    assert terminal("clear") == "fine weather"

    terminal.know(program.url.removesuffix("/v2"), "another")
    assert terminal.refused("paused") == "Weather unchanged: invalid api key\n"
    terminal.know(f"http://127.0.0.1:{leashed.free_port()}", KEY)
    assert terminal.refused() == "The local RunPod does not answer: is `make run` up?\n"


def test_a_terminal_in_the_clone_needs_no_name_of_the_folder(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Terminal(tmp_path / ".local").know(program.url.removesuffix("/v2"), KEY)
    monkeypatch.chdir(tmp_path)
    assert Terminal(None)() == "fine weather"


@pytest.mark.skipif(sys.platform != "linux", reason="watches processes it did not start, by pidfd")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_worker_stays_behind(sent: signal.Signals) -> None:
    with started(f"endless={ENDLESS}") as program:
        job_id = program.http.post("/endless/run", json={"input": {"stop": False}}).json()["id"]
        worker = program.next_chunk(job_id)
        pinging = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        assert len(pinging) == 1
        watched = [os.pidfd_open(int(pid)) for pid in (worker, *pinging)]
        program.process.send_signal(sent)
        for pidfd in watched:
            assert select.select([pidfd], [], [], 20)[0], "a worker outlived the program"
            os.close(pidfd)
        assert program.process.wait(20) == (0 if sent is signal.SIGTERM else -signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sculpture"], "no sample handler"),
        (["text=nowhere.py"], "no file"),
        (["text", "text"], "only once"),
        ([f"a/b={ENDLESS}"], "cannot be an endpoint id"),
        ([f"={ENDLESS}"], "cannot be an endpoint id"),
    ],
)
def test_a_wrong_command_line_says_why(arguments: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        crews_from(arguments, 1)
