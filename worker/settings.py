"""What the worker alone is told: RunPod's key and endpoints, deadlines, and how much it does at once."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from shared.errors import ConfigurationRefused
from shared.generations import HELD_BACK_DEADLINE, HOLD_LIFETIME, RESERVED_DEADLINE, Type
from shared.settings import Settings

# RunPod's own bounds (runpod.md 1.2): executionTimeout 5 s to 7 days, ttl 10 s to 7 days.
SHORTEST_RUN = timedelta(seconds=5)
SHORTEST_LEASE = timedelta(seconds=28)
"""Longer than the longest exchange with RunPod (worker/poll.py, worker/runpod.py)."""
MOST_JOBS = 1_000_000
"""More than RunPod queues for anybody: whoever wants no limit says this."""
MOST_RECALLS = 3
"""How often a generation is recalled in a round (worker/recall.py); each is one more submission."""
EndpointId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
_LOOPBACK = ("127.0.0.1", "localhost")
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


def _variable(generation_type: Type) -> str:
    return f"RUNPOD_ENDPOINT_{generation_type.value.upper()}"


class WorkerSettings(Settings):
    """Settings of `python -m worker`. Durations are seconds in the environment."""

    runpod_api_key: SecretStr = Field(validation_alias="RUNPOD_API_KEY", min_length=1)
    runpod_base_url: str = Field("https://api.runpod.ai/v2", validation_alias="RUNPOD_BASE_URL")
    endpoints_file: Path | None = Field(
        None,
        validation_alias="TWIN_ENDPOINTS",
        description="a TOML file of endpoint profiles, in place of the four endpoint ids",
    )
    endpoint_text: EndpointId | None = Field(None, validation_alias="RUNPOD_ENDPOINT_TEXT")
    endpoint_image: EndpointId | None = Field(None, validation_alias="RUNPOD_ENDPOINT_IMAGE")
    endpoint_modify: EndpointId | None = Field(None, validation_alias="RUNPOD_ENDPOINT_MODIFY")
    endpoint_video: EndpointId | None = Field(None, validation_alias="RUNPOD_ENDPOINT_VIDEO")

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
    stream_slots: int = Field(
        64,
        ge=1,
        le=150,
        validation_alias="TWIN_STREAM_SLOTS",
        description="texts that one process follows at once; each holds a connection to RunPod",
    )
    broken_stream: Literal["refund", "charge"] = Field(
        "refund",
        validation_alias="TWIN_BROKEN_STREAM",
        description="a text that broke off or was cancelled: nothing is kept and charged, or what came is",
    )
    unkept_outputs: Literal["refund", "reference"] = Field(
        "refund",
        validation_alias="TWIN_UNKEPT_OUTPUTS",
        description="what becomes of outputs that could not be copied until the finish deadline",
    )
    max_concurrency: int | None = Field(
        None,
        ge=1,
        le=MOST_JOBS,
        validation_alias="TWIN_MAX_CONCURRENCY",
        description="jobs that an endpoint has of us at once, queued or running; its profile may say another number."
        " Unset: what it runs at once by its own account, and a little more (worker/capacity.py)",
    )
    run_allowance: int = Field(1000, ge=10, validation_alias="TWIN_RUN_ALLOWANCE")
    # with less, a bucket (worker/allowances.sql) never holds what a poll costs where webhooks come (worker/due.py)
    status_allowance: int = Field(2000, ge=40, validation_alias="TWIN_STATUS_ALLOWANCE")
    cancel_allowance: int = Field(100, ge=10, validation_alias="TWIN_CANCEL_ALLOWANCE")
    stream_allowance: int = Field(2000, ge=10, validation_alias="TWIN_STREAM_ALLOWANCE")
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

    @field_validator("runpod_api_key")
    @classmethod
    def _key(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            msg = "must be visible ASCII without blanks or line ends: no header carries anything else"
            raise ValueError(msg)
        return value

    @field_validator("runpod_base_url")
    @classmethod
    def _base(cls, value: str) -> str:
        url = urlsplit(value)
        if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and url.hostname in _LOOPBACK)):
            msg = "must be https:// (plain http only for a RunPod stand-in on this machine): it carries the API key"
            raise ValueError(msg)
        return value.rstrip("/")

    @model_validator(mode="after")
    def _endpoints_are_named_once(self) -> Self:
        given = self.endpoint_ids()
        if self.endpoints_file is not None and given:
            names = ", ".join(_variable(generation_type) for generation_type in given)
            raise ConfigurationRefused(f"TWIN_ENDPOINTS and {names} are both set; name the endpoints in one place.")
        missing = [_variable(generation_type) for generation_type in Type if generation_type not in given]
        if self.endpoints_file is None and missing:
            sentences = " ".join(f"{name}: is not set." for name in missing)
            raise ConfigurationRefused(f"{sentences} Or name a file of endpoints in TWIN_ENDPOINTS.")
        return self

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        if self.mode == "production" and self.lease < SHORTEST_LEASE:
            raise ConfigurationRefused(
                f"TWIN_LEASE_SECONDS must be at least {SHORTEST_LEASE.seconds}: a call to RunPod takes up to that."
            )
        if self.run_deadline < SHORTEST_RUN:
            raise ConfigurationRefused("TWIN_RUN_DEADLINE_SECONDS must be at least 5: RunPod accepts no shorter run.")
        if self.verify_whole < self.verify:
            raise ConfigurationRefused(
                "TWIN_VERIFY_WHOLE_SECONDS must be at least TWIN_VERIFY_SECONDS: a verification of the whole ledger is"
                " one of those that TWIN_VERIFY_SECONDS spaces."
            )
        if self.longest_life(queue_deadline=self.queue_deadline, run_deadline=self.run_deadline) > HOLD_LIFETIME:
            raise ConfigurationRefused(
                "TWIN_QUEUE_DEADLINE_SECONDS, TWIN_RUN_DEADLINE_SECONDS and TWIN_FINISH_DEADLINE_SECONDS add up, twice"
                f" over, and the first of them {MOST_RECALLS} times more, to more than a hold lives"
                f" ({HOLD_LIFETIME}); a generation must be settled before its hold expires, also when it was recalled"
                " from RunPod, one attempt fails at the end and another is waited for."
            )
        return self

    def allowances(self) -> dict[str, int]:
        """Requests per 10 s that all workers together may make of each endpoint (runpod.md 1.6).

        RunPod's figures by default. They grow with the endpoint's running workers there, by a figure that RunPod does
        not document: ours do not.
        """
        return {
            "run": self.run_allowance,
            "status": self.status_allowance,
            "cancel": self.cancel_allowance,
            "stream": self.stream_allowance,
        }

    def longest_life(self, *, queue_deadline: timedelta, run_deadline: timedelta) -> timedelta:
        """How long a generation can live at most: recalled as often as may be at the last moment, and its first attempt
        fails at the end. Its hold must outlive it.
        """
        waiting = HELD_BACK_DEADLINE + RESERVED_DEADLINE + MOST_RECALLS * (RESERVED_DEADLINE + queue_deadline)
        return waiting + 3 * self.submit_grace + 2 * (queue_deadline + run_deadline + self.finish_deadline)

    def endpoint_ids(self) -> dict[Type, str]:
        """RunPod's endpoint id for each type that has a variable of its own."""
        named = {
            Type.TEXT: self.endpoint_text,
            Type.IMAGE: self.endpoint_image,
            Type.MODIFY: self.endpoint_modify,
            Type.VIDEO: self.endpoint_video,
        }
        return {generation_type: endpoint_id for generation_type, endpoint_id in named.items() if endpoint_id}
