"""The platform: what RunPod's clients can ask of it, and what its workers do to the jobs. In memory, in one loop.

Both doors (`public_api.py`, `worker_wire.py`) and the tests call these same methods. Nothing here awaits but the
waiting itself, so each call is one step. The package's docstring shows it at work.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from tests.local.runpod.clock import Clock
from tests.local.runpod.endpoints import Canned, Endpoint
from tests.local.runpod.jobs import Job, State, job_from_request
from tests.local.runpod.limits import Limits
from tests.local.runpod.refusals import bad_request, endpoint_paused, job_not_found, too_many_requests
from tests.local.runpod.rules import Rules
from tests.local.runpod.weather import Trouble
from tests.local.runpod.webhooks import Attempt
from tests.local.runpod.workshop import Workshop

DEFAULT_RULES = Rules()


@dataclass
class Call:
    """One call of the public API, answered or not, `at` a moment. `status` is None when no answer went out."""

    operation: str
    endpoint_id: str
    job_id: str | None
    body: Any
    status: int | None = None
    at: float = 0.0


class Platform(Workshop):
    """An in-memory RunPod. Not thread-safe: use it from one event loop."""

    def __init__(
        self,
        endpoint_ids: Iterable[str] = (),
        *,
        rules: Rules = DEFAULT_RULES,
        clock: Clock = time.monotonic,
        webhook_client: httpx.AsyncClient | None = None,
    ) -> None:
        super().__init__(rules=rules, clock=clock)
        self.webhooks.client = webhook_client
        self.limits = Limits(rules.limits, clock)
        self.calls: deque[Call] = deque(maxlen=rules.calls_kept)
        for endpoint_id in endpoint_ids:
            self.add_endpoint(endpoint_id)

    # Setting up

    def add_endpoint(self, endpoint_id: str, *, canned: Canned | None = None, max_workers: int = 3) -> Endpoint:
        """Open an endpoint; with `canned` it answers by itself, without workers."""
        endpoint = self.endpoints[endpoint_id] = Endpoint(endpoint_id, canned, max_workers, used_at=self.clock())
        return endpoint

    def deliver_to(self, app: Any) -> None:
        """Have webhooks delivered straight into an ASGI app, whatever host their URLs name."""
        self.webhooks.client = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))

    # What a client asks

    def find(self, endpoint_id: str, job_id: str) -> Job:
        """Find a job that still exists. Raises Refusal (404)."""
        self.tick()
        job = self.endpoint(endpoint_id).jobs.get(job_id)
        if job is None:
            raise job_not_found()
        return job

    def jobs(self, endpoint_id: str) -> list[Job]:
        """List the endpoint's jobs that can still be asked for, oldest first."""
        self.tick()
        return list(self.endpoint(endpoint_id).jobs.values())

    def submit(self, endpoint_id: str, body: Any, *, sync: bool = False) -> Job:
        """Queue a job from the body of POST /run or /runsync. Raises Refusal (400, 404, 409)."""
        self.tick()
        endpoint = self.endpoint(endpoint_id)
        self._refuse_if_paused(endpoint)
        self._refuse_if_full(endpoint)
        job = job_from_request(endpoint_id, body, sync=sync, now=self.clock(), rules=self.rules)
        self._life.begin(endpoint, job)
        return job

    def cancel(self, job: Job) -> None:
        """Cancel a queued or running job, and have its worker told; an ended one stays as it is."""
        if job.ended:
            return
        endpoint = self.endpoint(job.endpoint_id)
        self._life.stop(endpoint, job)
        self._life.end(endpoint, job, State.CANCELLED)

    def retry(self, job: Job) -> None:
        """Queue a failed job again under the same id, its output removed. Raises Refusal (400, 409)."""
        if job.state not in {State.FAILED, State.TIMED_OUT}:
            raise bad_request(f"job is {job.state}, only FAILED and TIMED_OUT can be retried")
        endpoint = self.endpoint(job.endpoint_id)
        self._refuse_if_paused(endpoint)
        job.retries = 0
        self._life.queue(endpoint, job)

    def purge(self, endpoint_id: str) -> int:
        """Delete every queued job; running ones stay. Returns how many went. Raises Refusal (404)."""
        self.tick()
        endpoint = self.endpoint(endpoint_id)
        waiting = list(endpoint.queue.values())
        for job in waiting:
            self._life.forget(endpoint, job)
        return len(waiting)

    def health(self, endpoint_id: str) -> dict[str, Any]:
        """Count the endpoint's jobs and workers. Raises Refusal (404)."""
        self.tick()
        throttled = self.weather.strikes(Trouble.THROTTLED, endpoint_id, "health") is not None
        endpoint = self.endpoint(endpoint_id)
        return endpoint.health(self.clock(), self.rules.worker_lost_seconds, throttled=throttled)

    def keep_for(self, job: Job, seconds: float) -> None:
        """Let the job be deleted in so many seconds (`/status/{id}?ttl=`)."""
        self._life.forget_after(self.endpoint(job.endpoint_id), job, seconds)

    # Time and webhooks

    def calls_to(self, operation: str, endpoint_id: str | None = None) -> list[Call]:
        """List the recorded calls of one operation, oldest first."""
        return [call for call in self.calls if call.operation == operation and endpoint_id in {None, call.endpoint_id}]

    async def deliver_webhooks(self) -> list[Attempt]:
        """Deliver what is due now, in order; returns the attempts made. For when `running()` is not used."""
        self.tick()
        return await self.webhooks.deliver_due()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Platform"]:
        """Let time pass and webhooks go out by themselves inside the block."""
        tasks = [asyncio.create_task(self._tick_for_ever()), asyncio.create_task(self.webhooks.deliver_for_ever())]
        try:
            yield self
        finally:
            self.close()
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            await self.webhooks.aclose()

    def close(self) -> None:
        """Send everybody away who waits for something."""
        self.closing = True
        for endpoint in self.endpoints.values():
            endpoint.changed.beat()

    async def _tick_for_ever(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(0.05)

    def _refuse_if_paused(self, endpoint: Endpoint) -> None:
        now = self.clock()
        if endpoint.canned is None and endpoint.used_at + self.rules.idle_pause_seconds <= now:
            endpoint.max_workers = 0
        endpoint.used_at = now
        if endpoint.max_workers <= 0 or self.weather.strikes(Trouble.PAUSED, endpoint.id):
            raise endpoint_paused()

    def _refuse_if_full(self, endpoint: Endpoint) -> None:
        allowed = max(self.rules.queue_always, endpoint.max_workers * self.rules.queue_per_worker)
        if endpoint.canned is None and len(endpoint.queue) > allowed:
            raise too_many_requests()
