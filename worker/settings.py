"""What the worker alone is told: RunPod's key and endpoints, deadlines, and how much it does at once."""

from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.errors import ConfigurationRefused
from shared.generations import HOLD_LIFETIME, RESERVED_DEADLINE, Type
from shared.settings import Settings

# RunPod's own bounds (runpod.md 1.2): executionTimeout 5 s to 7 days, ttl 10 s to 7 days.
_SHORTEST_RUN = timedelta(seconds=5)
SHORTEST_LEASE = timedelta(seconds=28)
"""Longer than the longest exchange with RunPod (worker/poll.py, worker/runpod.py)."""
_DURATIONS = (
    "lease",
    "submit_grace",
    "queue_deadline",
    "run_deadline",
    "finish_deadline",
    "lost_grace",
    "drain",
    "idle",
    "verify",
    "verify_whole",
)


class WorkerSettings(Settings):
    """Settings of `python -m worker`. Durations are seconds in the environment."""

    runpod_api_key: SecretStr = Field(validation_alias="RUNPOD_API_KEY", min_length=1)
    runpod_base_url: str = Field("https://api.runpod.ai/v2", validation_alias="RUNPOD_BASE_URL")
    endpoint_text: str = Field(validation_alias="RUNPOD_ENDPOINT_TEXT", min_length=1)
    endpoint_image: str = Field(validation_alias="RUNPOD_ENDPOINT_IMAGE", min_length=1)
    endpoint_modify: str = Field(validation_alias="RUNPOD_ENDPOINT_MODIFY", min_length=1)
    endpoint_video: str = Field(validation_alias="RUNPOD_ENDPOINT_VIDEO", min_length=1)

    lease: timedelta = Field(timedelta(seconds=30), validation_alias="TWIN_LEASE_SECONDS")
    submit_grace: timedelta = Field(timedelta(seconds=30), validation_alias="TWIN_SUBMIT_GRACE_SECONDS")
    queue_deadline: timedelta = Field(timedelta(minutes=15), validation_alias="TWIN_QUEUE_DEADLINE_SECONDS")
    run_deadline: timedelta = Field(timedelta(minutes=15), validation_alias="TWIN_RUN_DEADLINE_SECONDS")
    finish_deadline: timedelta = Field(timedelta(minutes=15), validation_alias="TWIN_FINISH_DEADLINE_SECONDS")
    lost_grace: timedelta = Field(timedelta(seconds=150), validation_alias="TWIN_LOST_GRACE_SECONDS")
    drain: timedelta = Field(timedelta(seconds=20), validation_alias="TWIN_DRAIN_SECONDS")
    idle: timedelta = Field(
        timedelta(seconds=2),
        validation_alias="TWIN_IDLE_SECONDS",
        description="how long a loop waits for a bell before it looks by itself",
    )
    verify: timedelta = Field(
        timedelta(hours=1),
        validation_alias="TWIN_VERIFY_SECONDS",
        description="how often the ledger is verified where it was touched since",
    )
    verify_whole: timedelta = Field(
        timedelta(days=1), validation_alias="TWIN_VERIFY_WHOLE_SECONDS", description="how often all of it"
    )
    submit_slots: int = Field(64, ge=1, le=1000, validation_alias="TWIN_SUBMIT_SLOTS")
    poll_slots: int = Field(200, ge=1, le=2000, validation_alias="TWIN_POLL_SLOTS")
    finish_slots: int = Field(8, ge=1, le=200, validation_alias="TWIN_FINISH_SLOTS")
    run_allowance: int = Field(1000, ge=10, validation_alias="TWIN_RUN_ALLOWANCE")
    status_allowance: int = Field(2000, ge=10, validation_alias="TWIN_STATUS_ALLOWANCE")
    cancel_allowance: int = Field(100, ge=10, validation_alias="TWIN_CANCEL_ALLOWANCE")
    metrics_host: str = Field("127.0.0.1", validation_alias="TWIN_WORKER_METRICS_HOST")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        validation_alias="TWIN_WORKER_METRICS_PORT",
        description="where Prometheus reads the worker's own counters; not served when unset",
    )

    @field_validator(*_DURATIONS, mode="before")
    @classmethod
    def _seconds(cls, value: object) -> object:
        return float(value) if isinstance(value, str) else value

    @field_validator(*_DURATIONS)
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            msg = "must be more than 0 seconds"
            raise ValueError(msg)
        return value

    @field_validator("runpod_base_url")
    @classmethod
    def _base(cls, value: str) -> str:
        if not value.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            msg = "must be https:// (plain http only for a RunPod stand-in on this machine): it carries the API key"
            raise ValueError(msg)
        return value.rstrip("/")

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        if self.mode == "production" and self.lease < SHORTEST_LEASE:
            raise ConfigurationRefused(
                f"TWIN_LEASE_SECONDS must be at least {SHORTEST_LEASE.seconds}: a call to RunPod takes up to that."
            )
        if self.run_deadline < _SHORTEST_RUN:
            raise ConfigurationRefused("TWIN_RUN_DEADLINE_SECONDS must be at least 5: RunPod accepts no shorter run.")
        if self.verify_whole < self.verify:
            raise ConfigurationRefused(
                "TWIN_VERIFY_WHOLE_SECONDS must be at least TWIN_VERIFY_SECONDS: a verification of the whole ledger is"
                " one of those that TWIN_VERIFY_SECONDS spaces."
            )
        longest = RESERVED_DEADLINE + self.queue_deadline + self.run_deadline + self.finish_deadline
        if longest + 3 * self.submit_grace > HOLD_LIFETIME:
            raise ConfigurationRefused(
                "TWIN_QUEUE_DEADLINE_SECONDS, TWIN_RUN_DEADLINE_SECONDS and TWIN_FINISH_DEADLINE_SECONDS add up to more"
                f" than a hold lives ({HOLD_LIFETIME}); a generation must be settled before its hold expires."
            )
        return self

    def allowances(self) -> dict[str, int]:
        """Requests per 10 s that this process may make of each endpoint: RunPod's figures (runpod.md 1.6) by default.

        They hold for all workers together: with several, give each its share.
        """
        return {"run": self.run_allowance, "status": self.status_allowance, "cancel": self.cancel_allowance}

    def endpoint_ids(self) -> dict[Type, str]:
        """RunPod's endpoint id for each type."""
        return {
            Type.TEXT: self.endpoint_text,
            Type.IMAGE: self.endpoint_image,
            Type.MODIFY: self.endpoint_modify,
            Type.VIDEO: self.endpoint_video,
        }
