"""`make run` as a whole: it comes up, two live side by side, and nothing outlives them however they end."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.local import valkey
from tests.local.databases import Databases, wait_for
from tests.world.processes import of_folder, wait_until_none
from tests.world.running import Run

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are counted in /proc"),
    pytest.mark.timeout(300),  # whole worlds, several at once, on a machine that may be busy
]


@pytest.fixture
def started() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def run(started: ExitStack, folder: Path, *arguments: str, **settings: str) -> Run:
    begun = Run(folder, *arguments, **settings)
    started.callback(begun.stop)
    return begun


def test_two_side_by_side_one_ended_politely_the_other_not(started: ExitStack, tmp_path: Path) -> None:
    one = run(started, tmp_path / "one")
    two = run(started, tmp_path / "two")
    one.until("ready http://")
    two.until("ready http://")
    assert (one.available(), two.available()) == (100, 100)

    taken = run(started, tmp_path / "three", PORT=str(one.port))
    assert f"port {one.port} cannot be had" in taken.until("Not started")
    assert taken.ended() == 1
    shared = run(started, tmp_path / "two")
    assert f"in use by process {two.process.pid}" in shared.until("Not started")
    assert shared.ended() == 1

    os.kill(one.pid_of("worker"), signal.SIGKILL)
    one.until("worker was ended by SIGKILL")
    one.until("worker.ready")

    one.process.send_signal(signal.SIGINT)
    assert one.ended() == 0
    assert of_folder(one.folder) == {}

    two.process.kill()
    assert wait_until_none(two.folder, seconds=10) == {}
    again = run(started, two.folder, PORT=str(two.port))
    again.until("ready http://")
    assert again.available() == 100
    again.process.terminate()
    assert again.ended() == 0
    assert of_folder(again.folder) == {}


def test_a_part_that_cannot_start_is_named_and_takes_nothing_along(started: ExitStack, tmp_path: Path) -> None:
    begun = run(started, tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    begun.until("Not started: the database could not be migrated")
    assert begun.ended() == 1
    assert of_folder(tmp_path) == {}


def test_a_handler_of_ones_own_serves_its_type_in_the_weather_that_is_set(started: ExitStack, tmp_path: Path) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text(
        "import runpod\n"
        "def handler(job):\n"
        "    print('I was asked for', job['input']['prompt'], flush=True)\n"
        "    return {'text': 'made by my own hand'}\n"
        "runpod.serverless.start({'handler': handler})\n"
    )
    folder = tmp_path / "world"
    begun = run(started, folder, "--handler", str(handler), "--type", "text")
    begun.until("ready http://")
    assert begun.weather("text", "webhooks=lost") == "text webhooks=lost\n"
    headers = begun.signed_in() | {"idempotency-key": "own"}
    sent = begun.ask("POST", "/v1/generations", json={"type": "text", "prompt": "a hand"}, headers=headers)
    begun.until("I was asked for a hand")
    begun.until("generation.completed")
    assert "made by my own hand" in json.dumps(begun.ask("GET", f"/v1/generations/{sent['id']}", headers=headers))
    begun.process.terminate()
    assert begun.ended() == 0

    handler.write_text("raise ValueError('no model')")
    refused = run(started, folder, "--handler", str(handler), "--type", "text")
    refused.until("Not started: runpod did not start")
    refused.until("ValueError: no model")
    refused.until("worker text-1 ended before it asked for work (exit code 1)")
    assert refused.ended() == 1
    assert of_folder(folder) == {}


def test_it_can_be_stopped_while_it_starts(started: ExitStack, tmp_path: Path) -> None:
    begun = run(started, tmp_path)
    begun.until("postgres is up")
    begun.process.terminate()
    assert begun.ended() == 0
    assert of_folder(tmp_path) == {}


def test_what_the_user_brings_is_used_and_nothing_local_started_in_its_place(
    started: ExitStack, tmp_path: Path, databases: Databases, valkey_server: valkey.Running
) -> None:
    name = wait_for(databases.create_empty())
    started.callback(lambda: wait_for(databases.drop(name)))
    begun = run(started, tmp_path, DATABASE_URL=databases.url(name), REDIS_URL=valkey_server.url)
    begun.until("ready http://")
    assert begun.available() == 100
    assert not any("postgres" in command or "valkey" in command for command in of_folder(tmp_path).values())
    begun.process.terminate()
    assert begun.ended() == 0


def test_runpod_named_by_halves_is_refused(started: ExitStack, tmp_path: Path) -> None:
    begun = run(started, tmp_path, RUNPOD_API_KEY="rp_key", RUNPOD_ENDPOINT_TEXT="abc")
    line = begun.until("Not started")
    assert "RUNPOD_ENDPOINT_IMAGE, RUNPOD_ENDPOINT_MODIFY, RUNPOD_ENDPOINT_VIDEO" in line
    assert begun.ended() == 1
