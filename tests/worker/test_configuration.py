"""The file of endpoints: what it says is what is sent, and what is wrong with it is refused with its place and why."""

import base64
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from shared.errors import ConfigurationRefused
from shared.generations import Type
from shared.settings import read
from worker.configuration import read_endpoints
from worker.endpoints import Endpoints
from worker.kinds import KINDS
from worker.kinds.passthrough import Passthrough
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "worker" / "example"
REST = """
[[endpoint]]
name = "t"
type = "text"
endpoint_id = "aaa"
worker = "passthrough"

[[endpoint]]
name = "m"
type = "modify"
endpoint_id = "bbb"
worker = "image-edit"

[[endpoint]]
name = "v"
type = "video"
endpoint_id = "ccc"
worker = "mochi"
"""
IMAGE = {"name": '"i"', "type": '"image"', "endpoint_id": '"ddd"', "worker": '"sdxl"'}


TOLD = {
    "database_url": "postgresql://twin@127.0.0.1/twin",
    "redis_url": "redis://127.0.0.1",
    "secret": "k1:" + base64.b64encode(b"x" * 32).decode(),
    "public_url": "https://twin.example.com",
    "runpod_api_key": "rpa_very_secret",
}


def settings_of(folder: Path, **changes: object) -> WorkerSettings:
    return read(WorkerSettings, **TOLD, endpoints_file=folder / "endpoints.toml", **changes)


def read_text(folder: Path, text: str, **changes: object) -> Endpoints:
    (folder / "endpoints.toml").write_text(text, encoding="utf-8")
    return read_endpoints(settings_of(folder, **changes))


def refusal_of(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationRefused) as refusal:
        read_text(folder, text)
    return refusal.value.detail


def an_image(**changes: str | None) -> str:
    """The other three types, and an endpoint for images; its values in TOML, None leaves one out."""
    lines = [f"{name} = {value}" for name, value in {**IMAGE, **changes}.items() if value is not None]
    return "\n".join([REST, "[[endpoint]]", *lines])


def test_the_example_is_followed(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    endpoints = read_endpoints(settings_of(tmp_path))
    kinds = {type(profile.kind) for profile in endpoints}
    assert {profile.endpoint.type for profile in endpoints} == set(Type)
    assert kinds == set(KINDS.values()), "the example shows every kind"


def test_what_the_readme_shows_is_followed(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "image.json", tmp_path)
    _, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("```toml\n")
    endpoints = read_text(tmp_path, rest.partition("```")[0])
    assert {profile.endpoint.type for profile in endpoints} == set(Type)


def test_every_term_reaches_the_profile(tmp_path: Path) -> None:
    endpoints = read_text(
        tmp_path,
        an_image(
            priority="2",
            weight="5",
            queue_deadline_seconds="60",
            run_deadline_seconds="120.5",
            expected_run_seconds="7",
            expected_cost_usd="0.0125",
            max_concurrency="4",
        ),
    )
    profile = endpoints.named("i")
    assert profile is not None
    assert (profile.endpoint.type, profile.endpoint.endpoint_id) == (Type.IMAGE, "ddd")
    assert (profile.priority, profile.weight, profile.max_concurrency) == (2, 5, 4)
    assert (profile.queue_deadline, profile.run_deadline) == (timedelta(seconds=60), timedelta(seconds=120.5))
    assert (profile.expected_run, profile.expected_cost_usd) == (timedelta(seconds=7), Decimal("0.0125"))
    assert profile.policy() == {"executionTimeout": 120_500, "ttl": 240_500}


def test_what_an_entry_leaves_out_the_settings_say(tmp_path: Path) -> None:
    told = {"run_deadline": timedelta(seconds=77), "max_concurrency": 7}
    endpoints = read_text(tmp_path, an_image(), **told)
    profile = endpoints.named("i")
    assert profile is not None
    assert (profile.priority, profile.weight) == (0, 1)
    assert (endpoints.said()["ddd"], profile.expected_cost_usd, profile.streams) == (7, None, False)
    assert (profile.queue_deadline, profile.run_deadline) == (timedelta(minutes=15), timedelta(seconds=77))


def test_a_text_that_streams_says_so(tmp_path: Path) -> None:
    text = an_image() + '\n[[endpoint]]\nname = "s"\ntype = "text"\nendpoint_id = "e"\nworker = "vllm"\nmodel = "m"\n'
    profile = read_text(tmp_path, text + "streams = true\n").named("s")
    assert profile is not None
    assert profile.streams


def test_without_a_file_each_type_passes_through_to_its_variable() -> None:
    variables = {"endpoint_text": "a", "endpoint_image": "b", "endpoint_modify": "c", "endpoint_video": "d"}
    endpoints = read_endpoints(read(WorkerSettings, **TOLD, **variables))
    assert [profile.endpoint.endpoint_id for profile in endpoints] == ["a", "b", "c", "d"]
    assert [profile.endpoint.name for profile in endpoints] == ["text", "image", "modify", "video"]
    assert all(isinstance(profile.kind, Passthrough) for profile in endpoints)
    assert endpoints.said() == {}, "what was learnt counts"
    few = read_endpoints(read(WorkerSettings, **TOLD, **variables, max_concurrency=3))
    assert few.said() == dict.fromkeys("abcd", 3)


@pytest.mark.parametrize(
    ("said", "default", "limit"),
    [
        ((300, None), 7, 300),
        ((None, 300), 7, 300),
        ((300, 400), 7, 300),
        ((2, None), 7, 2),
        ((None, None), 7, 7),
        ((None, 300), None, 300),
        ((None, None), None, None),
    ],
)
def test_a_profile_that_says_nothing_lowers_nothing(
    tmp_path: Path, said: tuple[int | None, int | None], default: int | None, limit: int | None
) -> None:
    """Profiles of one endpoint keep to the lowest number that is said; the default is for when none is."""
    terms = [{} if number is None else {"max_concurrency": str(number)} for number in said]
    another = an_image(name='"another"', **terms[1]).removeprefix(REST)
    text = "\n".join([an_image(**terms[0]), another])
    assert read_text(tmp_path, text, max_concurrency=default).said().get("ddd") == limit


def test_both_ways_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as refusal:
        settings_of(tmp_path, endpoint_text="aaa")
    assert "TWIN_ENDPOINTS and RUNPOD_ENDPOINT_TEXT are both set" in refusal.value.detail


def test_the_file_is_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "endpoints.toml").write_text(an_image(), encoding="utf-8")
    monkeypatch.setenv("TWIN_ENDPOINTS", str(tmp_path / "endpoints.toml"))
    settings = read(WorkerSettings, **TOLD)
    assert [profile.endpoint.name for profile in read_endpoints(settings)] == ["t", "m", "v", "i"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle": '"x"'}, "endpoint 4 (i): modle is not known; known are name, type, endpoint_id, worker,"),
        ({"name": None}, "endpoint 4: name is not set"),
        ({"name": '"with space"'}, "endpoint 4 (with space): name:"),
        ({"name": "7"}, "endpoint 4: name:"),
        ({"name": '"t"'}, "endpoint t: 2 entries have this name"),
        ({"type": '"audio"'}, "endpoint 4 (i): type:"),
        ({"type": '"text"'}, "endpoint 4 (i): a sdxl worker makes image, modify, not text"),
        ({"type": '["image"]'}, "type image: no endpoint makes it"),
        ({"endpoint_id": '"a/b"'}, "endpoint 4 (i): endpoint_id:"),
        ({"worker": '"sdxxl"'}, "endpoint 4 (i): worker sdxxl is not known; known are passthrough, vllm,"),
        ({"priority": "-1"}, "endpoint 4 (i): priority:"),
        ({"priority": '"1"'}, "endpoint 4 (i): priority:"),
        ({"weight": "0"}, "endpoint 4 (i): weight:"),
        ({"weight": "true"}, "endpoint 4 (i): weight:"),
        ({"max_concurrency": "0"}, "endpoint 4 (i): max_concurrency:"),
        ({"max_concurrency": "10_000_000_000"}, "endpoint 4 (i): max_concurrency:"),
        ({"input": "{ since = 2026-01-01 }"}, "endpoint 4 (i): input: holds a date, a time, nan or inf"),
        ({"input": "{ sampling = { min_p = nan } }"}, "endpoint 4 (i): input: holds a date, a time, nan or inf"),
        (
            {"input": "{ clip_skip = 99_999_999_999_999_999_999 }"},
            "endpoint 4 (i): input: Integer exceeds 64-bit range",
        ),
        ({"expected_cost_usd": "-0.1"}, "endpoint 4 (i): expected_cost_usd:"),
        ({"expected_run_seconds": "nan"}, "endpoint 4 (i): expected_run_seconds:"),
        ({"queue_deadline_seconds": "0"}, "endpoint 4 (i): queue_deadline_seconds:"),
        ({"queue_deadline_seconds": '"60"'}, "endpoint 4 (i): queue_deadline_seconds:"),
        ({"run_deadline_seconds": "4.9"}, "endpoint 4 (i): run_deadline_seconds must be at least 5"),
        ({"run_deadline_seconds": "170000"}, "more than a hold lives (3 days, 0:00:00)"),
        ({"queue_deadline_seconds": "43200"}, "more than a hold lives (3 days, 0:00:00)"),  # recalled twice
        ({"streams": "true"}, "endpoint 4 (i): streams is not known"),
        ({"worker": '"passthrough"', "streams": "true"}, "endpoint 4 (i): streams is for text"),
        ({"worker": '"public"', "size": '"huge"'}, "endpoint 4 (i): size:"),
        ({"worker": '"comfyui"'}, "endpoint 4 (i): workflow is not set"),
        ({"worker": '"comfyui"', "workflow": '"none.json"'}, "none.json cannot be read: No such file"),
        ({"worker": '"comfyui"', "workflow": "7"}, "endpoint 4 (i): workflow: must be the path of a file"),
        ({"worker": '"comfyui"', "workflow": '"endpoints.toml"'}, "endpoints.toml is not JSON"),
        ({"worker": '"comfyui"', "workflow": '"ui.json"'}, "ui.json is not a workflow in the API format"),
        ({"worker": '"comfyui"', "workflow": '"nodes.json"'}, "nodes.json is not a workflow in the API format"),
        ({"worker": '"comfyui"', "workflow": '"empty.json"'}, "empty.json is not a workflow in the API format"),
        ({"worker": '"comfyui"', "workflow": '"bare.json"'}, "the workflow has no {{height}}, {{seed}}, {{width}}"),
        ({"worker": '"comfyui"', "workflow": '"odd.json"'}, "the workflow has {{cfg}}, {{image}}; known here are"),
        ({"worker": '"comfyui"', "workflow": '"large.json"'}, "large.json is larger than 1048576 bytes"),
    ],
)
def test_a_bad_entry_is_refused(tmp_path: Path, changes: dict[str, str | None], said: str) -> None:
    workflows = {
        "ui.json": '{"nodes": [], "links": []}',
        "nodes.json": '{"1": {"type": "X", "widgets_values": ["{{prompt}}"]}}',
        "empty.json": "{}",
        "bare.json": '{"1": {"class_type": "X", "inputs": {"text": "{{prompt}}"}}}',
        "odd.json": '{"1": {"class_type": "{{prompt}} {{ seed }} {{width}}", "x": ["{{height}} {{cfg}} {{image}}"]}}',
        "large.json": " " * 1_048_577,
    }
    for name, content in workflows.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    refusal = refusal_of(tmp_path, an_image(**changes))
    assert said in refusal
    assert str(tmp_path / "endpoints.toml") in refusal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no [[endpoint]] entries"),
        ("endpoint = 7", "has no [[endpoint]] entries"),
        ("[[endpoint]", "is not TOML"),
        ("colour = 1\n" + an_image(), "has colour; it may hold [[endpoint]] entries only"),
        (REST, "type image: no endpoint makes it"),
        ("#" * 1_048_577, "is larger than 1048576 bytes"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal_of(tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationRefused) as refusal:
        read_endpoints(settings_of(tmp_path))
    assert "TWIN_ENDPOINTS: " in refusal.value.detail
    assert "No such file" in refusal.value.detail


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    refusal = refusal_of(tmp_path, an_image(weight="0", priority="-1").replace('"mochi"', '"machi"'))
    assert "endpoint 3 (v): worker machi" in refusal
    assert "endpoint 4 (i): priority" in refusal
    assert "endpoint 4 (i): weight" in refusal
