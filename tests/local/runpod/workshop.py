"""The platform's other side: what workers do to the jobs, over the wire or scripted in a test."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.local.runpod.endpoints import Worker
from tests.local.runpod.ground import Ground
from tests.local.runpod.jobs import ABSENT, Job, State
from tests.local.runpod.weather import Trouble

SCRIPTED_WORKER = "scripted-worker"


class JobNotHeld(LookupError):
    """A scripted worker reported on a job that is not IN_PROGRESS (a late result, which the wire would ignore)."""


class Workshop(Ground):
    """Everything a worker can do. A scripted worker never falls silent; one with an id must be heard of."""

    def take(self, endpoint_id: str, worker_id: str | None = None) -> Job | None:
        """Take the job that has waited longest; None when there is none. Without a worker id: a scripted worker."""
        self.tick()
        endpoint = self.endpoint(endpoint_id)
        job = endpoint.first_ready(self.clock())
        if job is None or self.weather.strikes(Trouble.THROTTLED, endpoint_id, "job-take"):
            return None
        if worker_id is None:
            worker = endpoint.workers.setdefault(SCRIPTED_WORKER, Worker(SCRIPTED_WORKER, endpoint_id, float("inf")))
        else:
            worker = self.hear(endpoint_id, worker_id)
        self._life.start(endpoint, job, worker)
        return job

    async def next_job(self, endpoint_id: str, *, patience_seconds: float = 10) -> Job:
        """Take the next job as soon as there is one. Patience is real time. Raises TimeoutError."""
        async with asyncio.timeout(patience_seconds):
            while (job := await self.wait_for(self.endpoint(endpoint_id), lambda: self.take(endpoint_id), 60)) is None:
                pass
        return job

    def hear(self, endpoint_id: str, worker_id: str) -> Worker:
        """Note a sign of life from a worker. Raises Refusal (404) for an unknown endpoint."""
        worker = self.expect(endpoint_id, worker_id)
        worker.seen_at = self.clock()
        return worker

    def expect(self, endpoint_id: str, worker_id: str) -> Worker:
        """Announce a worker that is being started; it counts as initializing until it speaks."""
        return self.endpoint(endpoint_id).workers.setdefault(worker_id, Worker(worker_id, endpoint_id))

    def dismiss(self, endpoint_id: str, worker_id: str) -> None:
        """Note that a worker is gone for good: what it held is lost at once."""
        endpoint = self.endpoint(endpoint_id)
        worker = endpoint.workers.pop(worker_id, None)
        for job in list(worker.holding.values()) if worker else []:
            self._life.lose(endpoint, job)

    def progress(self, job_id: str, value: Any) -> Job:
        """Show `value` as the running job's output. Raises JobNotHeld."""
        job = self._held(job_id)
        job.output = value
        return job

    def stream(self, job_id: str, chunk: Any) -> Job:
        """Add one chunk to the job's stream; text over the limit is split. Raises JobNotHeld."""
        job = self._held(job_id)
        size = self.rules.stream_chunk_characters
        if isinstance(chunk, str) and len(chunk) > size:
            job.chunks.extend(chunk[start : start + size] for start in range(0, len(chunk), size))
        else:
            job.chunks.append(chunk)
        self.endpoint(job.endpoint_id).changed.beat()
        return job

    def complete(self, job_id: str, output: Any = ABSENT) -> Job:
        """End the job as COMPLETED; None and ABSENT leave no output. Raises JobNotHeld."""
        return self._end(job_id, State.COMPLETED, output=output)

    def fail(self, job_id: str, error: Any, output: Any = ABSENT) -> Job:
        """End the job as FAILED. Raises JobNotHeld."""
        return self._end(job_id, State.FAILED, error=error, output=output)

    def time_out(self, job_id: str) -> Job:
        """End a job, queued or running, as TIMED_OUT, which RunPod documents and nobody has captured."""
        job = self.job(job_id)
        if not job.ended:
            self._life.end(self.endpoint(job.endpoint_id), job, State.TIMED_OUT)
        return job

    def lose(self, job_id: str) -> Job:
        """Lose the worker's hold on the job: queued again once, then FAILED. Raises JobNotHeld."""
        job = self._held(job_id)
        self._life.lose(self.endpoint(job.endpoint_id), job)
        return job

    def forget(self, job_id: str) -> None:
        """Delete the job, as its ttl would: from now on a 404, and nobody is told."""
        job = self.job(job_id)
        self._life.forget(self.endpoint(job.endpoint_id), job)

    def work_off(self, endpoint_id: str, handler: Callable[[Job], Any]) -> list[Job]:
        """Take and end everything that waits, with what `handler` returns or raises. Returns the jobs."""
        done = []
        while job := self.take(endpoint_id):
            try:
                output = handler(job)
            except Exception as error:  # whatever it raises is the job's error, as in a real worker
                self.fail(job.id, str(error))
            else:
                self.complete(job.id, output)
            done.append(job)
        return done

    def _held(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.state is not State.IN_PROGRESS:
            raise JobNotHeld(f"job {job_id} is {job.state}")
        return job

    def _end(self, job_id: str, state: State, *, output: Any = ABSENT, error: Any = ABSENT) -> Job:
        job = self._held(job_id)
        self._life.end(self.endpoint(job.endpoint_id), job, state, output=output, error=error)
        return job
