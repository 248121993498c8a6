"""What the steps work with: opened once at the edge (main.py), handed to every step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
import structlog
from arq.connections import ArqRedis

from shared import events, metrics
from shared.database import Pool
from shared.generations import Generation, State
from shared.signing import Signer
from shared.storage import Storage
from worker.allowances import Allowances
from worker.endpoints import Endpoints
from worker.memory import Memory
from worker.pace import Pace
from worker.routing import Router
from worker.runpod import RunPod
from worker.settings import WorkerSettings
from worker.shares import Shares

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_EVENTS = {state: f"generation.{state.value}" for state in State}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The collaborators of one worker process."""

    settings: WorkerSettings
    pool: Pool
    queue: ArqRedis
    runpod: RunPod
    storage: Storage
    webhook_signer: Signer
    # For outputs that a worker left at an address of its own; never carries RunPod's key.
    outside: httpx.AsyncClient
    endpoints: Endpoints
    router: Router
    allowances: Allowances
    shares: Shares
    pace: Pace = field(default_factory=Pace)
    memory: Memory = field(default_factory=Memory)


async def report(context: Context, moved: Iterable[Generation | None]) -> None:
    """After the commit: one log event and one count for each transition, and word to the live pages."""
    generations = [generation for generation in moved if generation is not None]
    for generation in generations:
        metrics.TRANSITIONS.labels(generation.state.value).inc()
        log.info(
            _EVENTS[generation.state],
            generation_id=str(generation.id),
            attempt=generation.attempt,
            error_code=generation.error_code,
        )
    await events.announce(context.queue, generations)
