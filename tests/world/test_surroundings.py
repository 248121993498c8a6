"""The user's settings under the local world's: endpoints are named in one place, in a file or by variables."""

from pathlib import Path

import pytest

from tests.local.surroundings import ENDPOINTS, OwnHandler, SettingsRefused, Surroundings, own_handlers
from tests.local.world import open_world

LOCAL = {"RUNPOD_API_KEY": "local", **dict.fromkeys(ENDPOINTS, "local")}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*LOCAL, "TWIN_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_file_of_endpoints_replaces_the_local_variables(tmp_path: Path) -> None:
    told = Surroundings({"TWIN_ENDPOINTS": "mine.toml"}).with_local(LOCAL)
    assert told == {"TWIN_ENDPOINTS": "mine.toml", "RUNPOD_API_KEY": "local"}


def test_without_one_the_local_variables_hold() -> None:
    assert Surroundings({}).with_local(LOCAL) == LOCAL


def test_runpods_own_needs_one_of_the_two(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("RUNPOD_API_KEY", "rpa_x")
    with pytest.raises(SettingsRefused, match="RUNPOD_ENDPOINT_VIDEO, or TWIN_ENDPOINTS"):
        Surroundings.read(tmp_path)
    environment.setenv("TWIN_ENDPOINTS", "mine.toml")
    assert Surroundings.read(tmp_path).brings_runpod


@pytest.mark.parametrize(
    ("file", "kind", "words"),
    [
        ("nowhere.py", "image", "there is no such file"),
        (".", "image", "there is no such file"),
        ("handler.py", "music", "TYPE is 'music'; it can be text, image, modify, video"),
    ],
)
def test_a_handler_that_cannot_serve_is_refused_before_anything_starts(
    tmp_path: Path, file: str, kind: str, words: str
) -> None:
    (tmp_path / "handler.py").touch()
    with pytest.raises(SettingsRefused, match=words):
        OwnHandler.checked(tmp_path / file, kind)


@pytest.mark.parametrize("types", [[], ["text"], ["text", "text"], ["text", "image", "video"]])
def test_of_several_handlers_each_has_a_type_of_its_own(types: list[str]) -> None:
    with pytest.raises(SettingsRefused, match="a --type of its own"):
        own_handlers([Path(__file__)] * 2, types)
    both = own_handlers([Path(__file__)] * 2, ["text", "image"])
    assert [own.type for own in both] == ["text", "image"]
    assert [own.type for own in own_handlers([Path(__file__)], [])] == ["image"]


def test_a_handler_is_for_the_local_runpod_alone(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = own_handlers([Path(__file__)], ["text"])
    for name in LOCAL:
        environment.setenv(name, "given")
    with pytest.raises(SettingsRefused, match="HANDLER is for the local RunPod"):
        open_world(tmp_path, own, colours=False)
