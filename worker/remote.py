"""What RunPod says about a job, in one shape: the same reading for polls, webhooks' re-reads and cancels."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from shared import lenient
from shared.webhooks import is_remote_id

PROGRESS_CHARACTERS = 200
LONGEST_MILLISECONDS = 30 * 24 * 3600 * 1000  # RunPod lets nothing live longer than 7 days; more is nonsense


class RemoteState(StrEnum):
    """RunPod's job states (runpod.md 1.4)."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def terminal(self) -> bool:
        """The job has ended there; the one list of terminal states in this system."""
        return self not in (RemoteState.IN_QUEUE, RemoteState.IN_PROGRESS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """A job as /status, /run or /cancel describe it. `body` is the answer as it came.

    `is_rerun`: RunPod lost a worker that had it, and gave it to another (runpod.md 5).
    """

    id: str
    state: RemoteState
    body: bytes
    output: Any
    error: Any
    delay_ms: int | None
    execution_ms: int | None
    is_rerun: bool = False

    @property
    def progress(self) -> str | None:
        """While it runs, `output` is what the handler reported last, not a result (runpod.md 1.3)."""
        if self.state is not RemoteState.IN_PROGRESS or self.output is None:
            return None
        try:
            text = self.output if isinstance(self.output, str) else orjson.dumps(self.output).decode()
        except TypeError:
            return None  # nested too deeply to be written down
        return text.replace("\0", "")[:PROGRESS_CHARACTERS]


class UnreadableAnswer(ValueError):
    """A 200 whose body is not a job: RunPod, or something between, is not well."""


def read_job(body: bytes) -> RemoteJob:
    """Read a job from a 200 answer.

    Raises:
        UnreadableAnswer: not JSON, no id, or a state that is not in RunPod's list.
    """
    try:
        data = lenient.loads(body)
    except ValueError as error:
        msg = "the body is not JSON"
        raise UnreadableAnswer(msg) from error
    job_id = data.get("id") if isinstance(data, dict) else None
    if not isinstance(job_id, str) or not is_remote_id(job_id):
        msg = "the body has no job id"
        raise UnreadableAnswer(msg)
    return RemoteJob(
        id=job_id,
        state=read_state(data),
        body=body,
        output=data.get("output"),
        error=data.get("error"),
        delay_ms=_milliseconds(data.get("delayTime")),
        execution_ms=_milliseconds(data.get("executionTime")),
        is_rerun=bool(data.get("retries")),
    )


def read_state(data: object) -> RemoteState:
    """The state that an answer tells.

    Raises:
        UnreadableAnswer: not an object, or a state that is not in RunPod's list.
    """
    told = data.get("status") if isinstance(data, dict) else None
    state = "IN_PROGRESS" if told == "RUNNING" else str(told)
    if state not in RemoteState.__members__:
        msg = f"the state {state[:40]!r} is not one of RunPod's"
        raise UnreadableAnswer(msg)
    return RemoteState(state)


def _milliseconds(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value <= LONGEST_MILLISECONDS else None
