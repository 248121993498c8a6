"""What both processes are told from outside. Each adds its own part in `api/settings.py` and `worker/settings.py`.

Values come from the environment and `.env`; a bad one is refused at start with a sentence that names the variable.
"""

from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import signing
from shared.errors import ConfigurationRefused

S = TypeVar("S", bound=BaseSettings)

LOCAL_KEY_ID = "local"
"""The key id that the local world gives its generated secret; production refuses it."""


def as_origin(value: str) -> str:
    """An origin as browsers write it: scheme, host and port, nothing else.

    Raises:
        ValueError: it is none, or carries more (a path, a user, a query).
    """
    parts = urlsplit(value)
    bare = parts.path in ("", "/") and not parts.query and not parts.fragment and "@" not in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.hostname or not bare:
        msg = f"{value!r} is not an origin such as https://app.example.com (no path, no *)"
        raise ValueError(msg)
    port = f":{parts.port}" if parts.port is not None else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


class Settings(BaseSettings):
    """Where the truth, the bell and the outputs live, and who we are."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    mode: Literal["production", "local"] = Field("production", validation_alias="TWIN_MODE")
    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    redis_url: SecretStr = Field(validation_alias="REDIS_URL")
    secret: SecretStr = Field(validation_alias="TWIN_SECRET")
    public_url: str = Field(validation_alias="PUBLIC_URL")
    storage_url: str = Field("file:///var/lib/twin/media", validation_alias="STORAGE_URL")
    database_pool_size: int = Field(10, ge=1, le=200, validation_alias="DATABASE_POOL_SIZE")
    database_statement_cache_size: int = Field(
        1024,
        ge=0,
        validation_alias="DATABASE_STATEMENT_CACHE_SIZE",
        description="0 behind a transaction pooler (Supavisor or pgbouncer in transaction mode)",
    )
    queue_name: str = Field("twin:queue", min_length=1, validation_alias="TWIN_QUEUE")
    log_format: Literal["console", "json"] = Field("json", validation_alias="LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", validation_alias="LOG_LEVEL")

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        try:
            return as_origin(value)
        except ValueError as error:
            msg = "must be the http(s) origin that browsers and RunPod reach, for example https://api.example.com"
            raise ValueError(msg) from error

    @model_validator(mode="after")
    def _production_is_serious(self) -> Self:
        key_ids = signing.parse_secrets(self.secret.get_secret_value())
        if self.mode == "production":
            if LOCAL_KEY_ID in key_ids:
                raise ConfigurationRefused(
                    "TWIN_SECRET carries the local world's generated key; give production one of its own."
                )
            if not self.public_url.startswith("https://"):
                raise ConfigurationRefused(
                    "PUBLIC_URL must start with https:// in production: RunPod's webhooks carry a capability."
                )
        return self

    def signer(self, purpose: str) -> signing.Signer:
        """A signer for one purpose; see `shared/signing.py`."""
        return signing.Signer(signing.parse_secrets(self.secret.get_secret_value()), purpose=purpose)


def read(settings_class: type[S], **overrides: Any) -> S:
    """Read the settings from the environment.

    Raises:
        ConfigurationRefused: one sentence for each variable that is missing or wrong.
    """
    try:
        return settings_class(**overrides)
    except ValidationError as error:
        sentences = []
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0]) if problem["loc"] else "The settings"
            reason = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{name}: {reason}.")
        raise ConfigurationRefused(" ".join(sentences)) from error
