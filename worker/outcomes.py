"""What comes of a call to RunPod: a job, or one of a few outcomes, each with what it means for the money."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from worker.chunks import Drained
from worker.remote import RemoteJob


class Sign(StrEnum):
    """What an outcome says of the endpoint (worker/breaker.py)."""

    WELL = "well"
    """It answers."""
    LIMITED = "limited"
    """It wants to be asked less."""
    FAILING = "failing"
    """It may be ill: several in a row say that it is."""
    SHUT = "shut"
    """It takes nothing: paused, gone, or not ours to use."""
    NONE = "none"
    """Nothing: the reason lies with us."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """RunPod has nothing of this request. Send it again after `wait`."""

    reason: str
    wait: timedelta
    sign: Sign = Sign.NONE


@dataclass(frozen=True, slots=True)
class Refused:
    """RunPod will never take this request. What it `said` may repeat what we sent: it is for staff, never for a log."""

    reason: str
    said: str = ""

    @property
    def detail(self) -> str:
        """All of it."""
        return f"{self.reason}: {self.said}" if self.said else self.reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """RunPod may or may not have acted on this request. For `said` see `Refused`."""

    reason: str
    said: str = ""

    @property
    def detail(self) -> str:
        """All of it."""
        return f"{self.reason}: {self.said}" if self.said else self.reason


@dataclass(frozen=True, slots=True)
class Gone:
    """RunPod knows no such job: not yet, or not any more."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """What RunPod has of the job is more than we take, and will be the next time."""


Submission = RemoteJob | NotSent | Refused | Unknown
Reading = RemoteJob | Gone | NotSent | Unknown | TooLarge
Drain = Drained | Gone | NotSent | Unknown
