"""Every number the platform goes by, with RunPod's documented value as its default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limit:
    """How often an operation may be called on one endpoint; None means unlimited."""

    per_ten_seconds: int | None = None
    concurrent: int | None = None
    per_worker: int = 0
    """Calls in ten seconds that each worker allows, where that is more; RunPod does not say how many."""


DOCUMENTED_LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "runsync": Limit(2000, 400),
        "run": Limit(1000, 200),
        "status": Limit(2000, 400),
        "stream": Limit(2000, 400),
        "cancel": Limit(100, 20),
        "purge-queue": Limit(2, None),
        "requests": Limit(10, 2),
        # Not stated for retry and health.
    }
)

NO_LIMITS: Mapping[str, Limit] = MappingProxyType({})


@dataclass(frozen=True)
class Rules:
    """How this copy of RunPod behaves. Seconds are by the injected clock unless said otherwise."""

    api_key: str = "local-runpod-key"
    limits: Mapping[str, Limit] = field(default_factory=lambda: DOCUMENTED_LIMITS)
    run_body_bytes: int = 10 * MIB
    runsync_body_bytes: int = 20 * MIB
    result_body_bytes: int = 20 * MIB
    """A worker's result over this is refused, and the job ends COMPLETED without output."""
    stream_chunk_characters: int = 1_000_000
    retention_seconds: float = 30 * 60
    sync_retention_seconds: float = 60
    execution_timeout_ms: int = 600_000
    ttl_ms: int = 86_400_000
    runsync_wait_ms: int = 90_000
    stream_hold_seconds: float = 8
    """RunPod is said to hold for 10 s, which is also the official client's own timeout: a little less is safe."""
    take_hold_seconds: float = 20
    """How long a worker's question for a job, or for jobs to stop, is held open."""
    worker_lost_seconds: float = 30
    """A worker that holds a job and was not heard of for this long is lost."""
    unusable_input_seconds: float = 40
    """`{"input": {}}` reaches the worker as a job without input; the platform gives up on it after this long."""
    max_retries: int = 1
    queue_always: int = 50
    queue_per_worker: int = 500
    """More than this for each of `max_workers` in the queue, and more than `queue_always`: 429."""
    idle_pause_seconds: float = 7 * 86_400
    """An endpoint that was given no work for this long has its `max_workers` set to 0."""
    webhook_attempts: int = 3
    webhook_interval_seconds: float = 10
    webhook_timeout_seconds: float = 10
    """Real seconds, whatever the clock."""
    webhook_concurrency: int = 100
    calls_kept: int = 10_000
    webhook_attempts_kept: int = 10_000
