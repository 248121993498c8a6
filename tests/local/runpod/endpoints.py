"""An endpoint: its queue, its workers, and the figures /health gives."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.local.runpod.clock import Pulse
from tests.local.runpod.jobs import Job


@dataclass(frozen=True)
class Canned:
    """Answers for an endpoint without workers: `output(job)` after the given times, at once by default."""

    output: Callable[[Job], Any]
    queue_seconds: float = 0
    run_seconds: float = 0


class Pod(Protocol):
    """What a worker runs in, as far as the platform has it in hand."""

    def refresh(self) -> None:
        """End it and start another: the worker asked for that with a result."""

    def crash(self) -> None:
        """End it as a crash would."""


@dataclass(eq=False)
class Worker:
    """A worker known on the wire. `seen_at` is None until it first speaks."""

    id: str
    endpoint_id: str
    seen_at: float | None = None
    holding: dict[str, Job] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)
    """Ids of jobs it should stop, not yet told."""
    pod: Pod | None = None
    """None for a worker that somebody else runs."""
    watched: bool = False
    """Whether a timer looks after it while it holds jobs."""


@dataclass
class Counts:
    """How often things happened since the start."""

    completed: int = 0
    failed: int = 0
    retried: int = 0


@dataclass(eq=False)
class Endpoint:
    """One serverless endpoint. `max_workers=0` pauses it."""

    id: str
    canned: Canned | None = None
    max_workers: int = 3
    used_at: float = 0
    """When work was last asked of it."""
    queue: OrderedDict[str, Job] = field(default_factory=OrderedDict)
    running: dict[str, Job] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    """Every job that can still be asked for, in order of submission."""
    workers: dict[str, Worker] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    changed: Pulse = field(default_factory=Pulse)

    @property
    def live_workers(self) -> int:
        """How many workers have been heard of."""
        return sum(worker.seen_at is not None for worker in self.workers.values())

    def first_ready(self, now: float) -> Job | None:
        """Find the job that has waited longest and may be taken."""
        return next((job for job in self.queue.values() if job.ready_at <= now), None)

    def health(self, now: float, lost_seconds: float, *, throttled: bool) -> dict[str, Any]:
        """Count jobs and workers as GET /health does. It does not show whether the endpoint is paused."""
        workers = dict.fromkeys(("idle", "initializing", "ready", "running", "throttled", "unhealthy"), 0)
        for worker in self.workers.values():
            if worker.seen_at is None:
                workers["initializing"] += 1
            elif worker.seen_at + lost_seconds <= now:
                workers["unhealthy"] += 1
            elif throttled:
                workers["throttled"] += 1
            else:
                workers["running" if worker.holding else "idle"] += 1
                workers["ready"] += 1
        jobs = {
            "completed": self.counts.completed,
            "failed": self.counts.failed,
            "inProgress": len(self.running),
            "inQueue": len(self.queue),
            "retried": self.counts.retried,
        }
        return {"jobs": jobs, "workers": workers}
