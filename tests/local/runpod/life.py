"""The life of a job, step by step: queued, started, ended, lost, forgotten. Everything that moves a job is here."""

from functools import partial
from typing import Any

from tests.local.runpod.clock import Clock, Timers
from tests.local.runpod.endpoints import Canned, Endpoint, Worker
from tests.local.runpod.jobs import ABSENT, Job, State
from tests.local.runpod.rules import Rules
from tests.local.runpod.weather import Trouble, Weather
from tests.local.runpod.webhooks import Webhooks

CANNED_WORKER = "canned-worker"


class Life:
    """Moves jobs from state to state and hangs their deadlines on the timers."""

    def __init__(self, *, rules: Rules, clock: Clock, timers: Timers, weather: Weather, webhooks: Webhooks) -> None:
        self._rules = rules
        self._clock = clock
        self._timers = timers
        self._weather = weather
        self._webhooks = webhooks

    def begin(self, endpoint: Endpoint, job: Job) -> None:
        """Accept a new job: it lives until its ttl at the longest."""
        endpoint.jobs[job.id] = job
        self.forget_after(endpoint, job, job.policy.ttl_ms / 1000)
        self.queue(endpoint, job)

    def queue(self, endpoint: Endpoint, job: Job) -> None:
        """Put the job at the end of the queue, as if it had just come."""
        now = self._clock()
        job.state = State.IN_QUEUE
        job.queued_at = job.ready_at = now
        job.started_at = job.ended_at = job.worker_id = None
        job.output = job.error = ABSENT
        job.chunks.clear()
        job.attempt += 1
        endpoint.queue[job.id] = job
        if cold := self._weather.strikes(Trouble.COLD_START, endpoint.id):
            job.ready_at = now + cold.seconds
            self._timers.after(cold.seconds, endpoint.changed.beat)
        if endpoint.canned is not None:
            self._queue_canned(endpoint, job, endpoint.canned)
        endpoint.changed.beat()

    def start(self, endpoint: Endpoint, job: Job, worker: Worker) -> None:
        """Give the job to a worker."""
        del endpoint.queue[job.id]
        endpoint.running[job.id] = job
        worker.holding[job.id] = job
        job.state = State.IN_PROGRESS
        job.started_at = self._clock()
        job.worker_id = worker.id
        cap = job.policy.execution_timeout_ms / 1000
        self._timers.after(cap, partial(self._cap, endpoint, job.id, job.attempt))
        if not job.input:
            patience = self._rules.unusable_input_seconds
            self._timers.after(patience, partial(self._lose_unusable, endpoint, job.id, job.attempt))
        if crash := self._weather.strikes(Trouble.WORKER_CRASH, endpoint.id):
            self._timers.after(crash.seconds, partial(self._crash, endpoint, job.id, job.attempt))
        self._watch(endpoint, worker)
        endpoint.changed.beat()

    def end(self, endpoint: Endpoint, job: Job, state: State, *, output: Any = ABSENT, error: Any = ABSENT) -> None:
        """Let the job reach a terminal state, tell whoever asked to be told, and start its retention."""
        job.state = state
        job.ended_at = self._clock()
        job.output = ABSENT if output is None else output
        job.error = error
        if state is State.COMPLETED:
            endpoint.counts.completed += 1
            if self._weather.strikes(Trouble.OVERSIZED_RESULT, endpoint.id):
                job.output = ABSENT
        elif state is not State.CANCELLED:
            endpoint.counts.failed += 1
        self._release(endpoint, job)
        kept = self._rules.sync_retention_seconds if job.sync else self._rules.retention_seconds
        self._timers.after(kept, partial(self._retire, endpoint, job.id, job.attempt))
        if job.webhook is not None and state is not State.CANCELLED:
            body = job.as_status(job.ended_at) | {"input": job.input, "webhook": job.webhook}
            self._webhooks.post(endpoint.id, job.webhook, body)
        endpoint.changed.beat()

    def stop(self, endpoint: Endpoint, job: Job) -> None:
        """Tell the worker that holds the job, if any, to stop it."""
        worker = endpoint.workers.get(job.worker_id or "")
        if worker is not None and job.id in worker.holding:
            worker.stops.append(job.id)

    def lose(self, endpoint: Endpoint, job: Job) -> None:
        """Notice that nobody works on the job any more: queue it once more, then give up."""
        self._release(endpoint, job)
        if job.retries < self._rules.max_retries:
            job.retries += 1
            endpoint.counts.retried += 1
            self.queue(endpoint, job)
        else:
            self.end(endpoint, job, State.FAILED, error=f"job timed out after {job.retries} retries")

    def forget(self, endpoint: Endpoint, job: Job) -> None:
        """Delete the job, running or not; from now on it is a 404."""
        self.stop(endpoint, job)
        self._release(endpoint, job)
        endpoint.jobs.pop(job.id, None)
        endpoint.changed.beat()

    def forget_after(self, endpoint: Endpoint, job: Job, seconds: float) -> None:
        """Delete the job in so many seconds, whatever its state is then."""
        self._timers.after(seconds, partial(self._forget_by_id, endpoint, job.id))

    def _forget_by_id(self, endpoint: Endpoint, job_id: str) -> None:
        if job := endpoint.jobs.get(job_id):
            self.forget(endpoint, job)

    def _retire(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.jobs.get(job_id)
        if job is not None and job.attempt == attempt:
            self.forget(endpoint, job)

    def _release(self, endpoint: Endpoint, job: Job) -> None:
        endpoint.queue.pop(job.id, None)
        if endpoint.running.pop(job.id, None) and (worker := endpoint.workers.get(job.worker_id or "")):
            worker.holding.pop(job.id, None)

    def _cap(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.running.get(job_id)
        if job is not None and job.attempt == attempt:
            self.stop(endpoint, job)
            self.end(endpoint, job, State.FAILED, error="executionTimeout exceeded")

    def _lose_unusable(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.running.get(job_id)
        if job is not None and job.attempt == attempt:
            self.lose(endpoint, job)

    def _crash(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.running.get(job_id)
        if job is None or job.attempt != attempt:
            return
        worker = endpoint.workers.get(job.worker_id or "")
        if worker is not None and worker.pod is not None:
            worker.pod.crash()  # whoever runs it notices, and dismisses it
        else:
            self.lose(endpoint, job)

    def _watch(self, endpoint: Endpoint, worker: Worker) -> None:
        """Look after a worker for as long as it holds jobs; one that fell silent is lost with all it holds."""
        if worker.watched or worker.seen_at is None:
            return
        worker.watched = True
        patience = self._rules.worker_lost_seconds

        def look() -> None:
            worker.watched = False
            if worker.seen_at is not None and worker.seen_at + patience <= self._clock():
                for job in list(worker.holding.values()):
                    self.lose(endpoint, job)
            elif worker.holding:
                self._watch(endpoint, worker)

        self._timers.after(max(0.0, worker.seen_at + patience - self._clock()), look)

    def _queue_canned(self, endpoint: Endpoint, job: Job, canned: Canned) -> None:
        wait = job.ready_at - job.queued_at + canned.queue_seconds
        if wait:
            self._timers.after(wait, partial(self._start_canned, endpoint, job.id, job.attempt))
        else:
            self._start_canned(endpoint, job.id, job.attempt)

    def _start_canned(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.queue.get(job_id)
        if job is None or job.attempt != attempt or endpoint.canned is None:
            return
        if self._weather.strikes(Trouble.THROTTLED, endpoint.id):
            self._timers.after(1, partial(self._start_canned, endpoint, job_id, attempt))
            return
        worker = endpoint.workers.setdefault(CANNED_WORKER, Worker(CANNED_WORKER, endpoint.id, float("inf")))
        self.start(endpoint, job, worker)
        if endpoint.canned.run_seconds:
            end = partial(self._end_canned, endpoint, job_id, attempt)
            self._timers.after(endpoint.canned.run_seconds, end)
        else:
            self._end_canned(endpoint, job_id, attempt)

    def _end_canned(self, endpoint: Endpoint, job_id: str, attempt: int) -> None:
        job = endpoint.running.get(job_id)
        if job is None or job.attempt != attempt or endpoint.canned is None:
            return
        try:
            output = endpoint.canned.output(job)
        except Exception as error:  # whatever it raises is the job's error, as in a real worker
            self.end(endpoint, job, State.FAILED, error=str(error))
        else:
            self.end(endpoint, job, State.COMPLETED, output=output)
