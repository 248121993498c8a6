"""A job: what was asked, where it stands, what came of it, and how RunPod writes that down."""

import uuid
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

from tests.local.runpod.refusals import bad_request
from tests.local.runpod.rules import Rules

SEVEN_DAYS_MS: Final = 7 * 86_400_000


class State(StrEnum):
    """RunPod's job states."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


TERMINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT})


class Absent(Enum):
    """The one value that means: there is no such field (None is a value)."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True)
class Policy:
    """The part of a request that bounds the job's life, in milliseconds."""

    execution_timeout_ms: int
    ttl_ms: int
    low_priority: bool = False


@dataclass(eq=False, slots=True)
class Job:
    """One job. Read it freely; change it through the platform only. Moments are clock seconds."""

    id: str
    endpoint_id: str
    input: dict[str, Any]
    webhook: str | None
    policy: Policy
    s3_config: dict[str, Any] | None
    sync: bool
    queued_at: float
    ready_at: float
    """Not given to a worker before (cold start)."""
    state: State = State.IN_QUEUE
    started_at: float | None = None
    ended_at: float | None = None
    worker_id: str | None = None
    attempt: int = 0
    """Grows each time the job is queued, so that what was meant for an earlier run can be told."""
    retries: int = 0
    output: Any = ABSENT
    error: Any = ABSENT
    chunks: list[Any] = field(default_factory=list)
    """Streamed by the worker and not yet fetched."""

    @property
    def ended(self) -> bool:
        """Whether the job has reached a terminal state."""
        return self.state in TERMINAL

    def as_status(self, now: float) -> dict[str, Any]:
        """Write the job as GET /status does; times are milliseconds."""
        started = now if self.started_at is None else self.started_at
        ended = now if self.ended_at is None else self.ended_at
        body: dict[str, Any] = {
            "id": self.id,
            "status": str(self.state),
            "delayTime": round((min(started, ended) - self.queued_at) * 1000),
            "executionTime": max(0, round((ended - started) * 1000)),
        }
        if self.output is not ABSENT:
            body["output"] = self.output
        if self.error is not ABSENT:
            body["error"] = self.error
        if self.retries:
            body["retries"] = self.retries
        if self.worker_id is not None:
            body["workerId"] = self.worker_id
        return body

    def as_work(self) -> dict[str, Any]:
        """Write the job as a worker gets it. An empty input is left out, as the real platform does."""
        work: dict[str, Any] = {"id": self.id}
        if self.input:
            work["input"] = self.input
        if self.webhook is not None:
            work["webhook"] = self.webhook
        if self.s3_config is not None:
            work["s3Config"] = self.s3_config
        return work


def job_from_request(endpoint_id: str, body: Any, *, sync: bool, now: float, rules: Rules) -> Job:
    """Read the body of POST /run or /runsync; keys nobody knows are dropped. Raises Refusal (400)."""
    if not isinstance(body, dict):
        raise bad_request("body: must be a JSON object")
    if not isinstance(body.get("input"), dict):
        raise bad_request("input: must be a JSON object")
    webhook = body.get("webhook")
    if webhook is not None and not (isinstance(webhook, str) and webhook.startswith(("http://", "https://"))):
        raise bad_request("webhook: must be an http(s) URL")
    s3_config = body.get("s3Config")
    if s3_config is not None and not isinstance(s3_config, dict):
        raise bad_request("s3Config: must be a JSON object")
    return Job(
        id=f"{'sync-' if sync else ''}{uuid.uuid4()}-u1",
        endpoint_id=endpoint_id,
        input=body["input"],
        webhook=webhook,
        policy=_policy(body.get("policy"), rules),
        s3_config=s3_config,
        sync=sync,
        queued_at=now,
        ready_at=now,
    )


def _policy(raw: Any, rules: Rules) -> Policy:
    if raw is None:
        return Policy(rules.execution_timeout_ms, rules.ttl_ms)
    if not isinstance(raw, dict):
        raise bad_request("policy: must be a JSON object")
    low_priority = raw.get("lowPriority", False)
    if not isinstance(low_priority, bool):
        raise bad_request("policy.lowPriority: must be true or false")
    return Policy(
        execution_timeout_ms=_milliseconds(raw, "executionTimeout", rules.execution_timeout_ms, least=5_000),
        ttl_ms=_milliseconds(raw, "ttl", rules.ttl_ms, least=10_000),
        low_priority=low_priority,
    )


def _milliseconds(raw: dict[str, Any], key: str, default: int, *, least: int) -> int:
    value = raw.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= SEVEN_DAYS_MS:
        raise bad_request(f"policy.{key}: must be {least} to {SEVEN_DAYS_MS} ms")
    return value
