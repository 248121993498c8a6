"""Bad configuration is refused at start, with a sentence that says which variable and why."""

import base64

import pytest

from shared.errors import ConfigurationRefused
from shared.settings import read
from worker.settings import WorkerSettings

GOOD = {
    "DATABASE_URL": "postgresql://twin@127.0.0.1/twin",
    "REDIS_URL": "redis://127.0.0.1",
    "TWIN_SECRET": "k1:" + base64.b64encode(b"x" * 32).decode(),
    "PUBLIC_URL": "https://twin.example.com",
    "RUNPOD_API_KEY": "rpa_very_secret",
    "RUNPOD_ENDPOINT_TEXT": "aaa",
    "RUNPOD_ENDPOINT_IMAGE": "bbb",
    "RUNPOD_ENDPOINT_MODIFY": "ccc",
    "RUNPOD_ENDPOINT_VIDEO": "ddd",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    monkeypatch.chdir(str(tmp_path))
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TWIN_MODE", raising=False)
    return monkeypatch


def test_good_settings_are_read_and_keep_their_secrets() -> None:
    settings = read(WorkerSettings)
    assert settings.mode == "production"
    assert "rpa_very_secret" not in repr(settings)


def test_durations_are_seconds(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TWIN_LEASE_SECONDS", "45.5")
    assert read(WorkerSettings).lease.total_seconds() == 45.5


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TWIN_VERIFY_SECONDS", "0", "TWIN_VERIFY_SECONDS"),
        ("TWIN_VERIFY_WHOLE_SECONDS", "60", "TWIN_VERIFY_WHOLE_SECONDS must be at least TWIN_VERIFY_SECONDS"),
        ("RUNPOD_API_KEY", None, "RUNPOD_API_KEY: is not set"),
        ("RUNPOD_ENDPOINT_VIDEO", None, "RUNPOD_ENDPOINT_VIDEO: is not set"),
        ("DATABASE_URL", None, "DATABASE_URL: is not set"),
        ("TWIN_SECRET", "k1:c2hvcnQ=", "TWIN_SECRET"),
        ("TWIN_SECRET", "not a secret", "TWIN_SECRET"),
        ("TWIN_SECRET", "local:" + base64.b64encode(b"x" * 32).decode(), "TWIN_SECRET"),
        ("PUBLIC_URL", "http://twin.example.com", "PUBLIC_URL"),
        ("PUBLIC_URL", "twin.example.com", "PUBLIC_URL"),
        ("RUNPOD_API_KEY", "rpa_very_secret\n", "RUNPOD_API_KEY: must be visible ASCII"),
        ("RUNPOD_ENDPOINT_TEXT", "https://api.runpod.ai/v2/aaa", "RUNPOD_ENDPOINT_TEXT"),
        ("RUNPOD_ENDPOINT_TEXT", " aaa", "RUNPOD_ENDPOINT_TEXT"),
        ("RUNPOD_BASE_URL", "http://api.example.com/v2", "RUNPOD_BASE_URL"),
        ("RUNPOD_BASE_URL", "http://127.0.0.1.example.com/v2", "RUNPOD_BASE_URL"),
        ("RUNPOD_BASE_URL", "http://localhost@example.com/v2", "RUNPOD_BASE_URL"),
        ("TWIN_LEASE_SECONDS", "0", "TWIN_LEASE_SECONDS"),
        ("TWIN_LEASE_SECONDS", "10", "TWIN_LEASE_SECONDS"),
        ("TWIN_LEASE_SECONDS", "soon", "TWIN_LEASE_SECONDS"),
        ("TWIN_RUN_DEADLINE_SECONDS", "1", "TWIN_RUN_DEADLINE_SECONDS"),
        ("TWIN_QUEUE_DEADLINE_SECONDS", "999999", "TWIN_QUEUE_DEADLINE_SECONDS"),
        # would fit but for the graces
        ("TWIN_QUEUE_DEADLINE_SECONDS", "169750", "TWIN_QUEUE_DEADLINE_SECONDS"),
        ("TWIN_SUBMIT_SLOTS", "0", "TWIN_SUBMIT_SLOTS"),
        ("TWIN_MAX_CONCURRENCY", "0", "TWIN_MAX_CONCURRENCY"),
        ("TWIN_STATUS_ALLOWANCE", "39", "TWIN_STATUS_ALLOWANCE"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT"),
    ],
)
def test_bad_settings_are_refused(environment: pytest.MonkeyPatch, name: str, value: str | None, said: str) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(ConfigurationRefused) as refusal:
        read(WorkerSettings)
    assert said in refusal.value.detail
    assert "rpa_very_secret" not in refusal.value.detail
