"""What the settings know, compose.yaml passes on: what is written into .env does not stay outside the containers."""

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from api.settings import ApiSettings
from shared.settings import Settings
from worker.settings import WorkerSettings

COMPOSE = Path(__file__).parents[2] / "compose.yaml"
NOT_IN_PRODUCTION = {"TWIN_MODE"}
OF_THE_BUCKET = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}


@pytest.mark.parametrize(("service", "settings"), [("api", ApiSettings), ("worker", WorkerSettings)])
def test_every_setting_reaches_the_container(service: str, settings: type[Settings]) -> None:
    passed = yaml.safe_load(COMPOSE.read_text())["services"][service]["environment"]
    known = {str(field.validation_alias) for field in settings.model_fields.values()}
    assert known | OF_THE_BUCKET <= passed.keys() | NOT_IN_PRODUCTION
