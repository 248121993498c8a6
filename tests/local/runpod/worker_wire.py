"""The worker wire: what an unmodified `runpod` SDK worker says and hears."""

from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from tests.local.runpod.asgi import Receive, Scope, Send, TooLarge, address, answer, header, read_body, unless_gone
from tests.local.runpod.endpoints import Worker
from tests.local.runpod.jobs import ABSENT
from tests.local.runpod.platform import Platform
from tests.local.runpod.refusals import Refusal, bad_request, body_too_large, invalid_key

OPERATIONS: Final = frozenset({"job-take", "job-take-batch", "job-done", "job-stream", "ping", "job-stop"})
MOST_AT_ONCE: Final = 100


class WorkerWire:
    """Answers workers out of the platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a worker. Raises Gone when it hung up."""
        where = address(scope)
        operation = where.operation
        worker_id, job_id, *_ = [*where.rest, "", ""]
        try:
            raw = await read_body(receive, self._platform.rules.result_body_bytes)
            worker = self._authorize(scope, where.endpoint_id, worker_id)
            if operation in {"job-take", "job-take-batch"}:
                body = await self._take(scope, receive, worker, batch=operation == "job-take-batch")
            elif operation == "job-stop":
                body = await self._stop(receive, worker)
            else:
                body = self._report(operation, worker, job_id, raw)
            status = 204 if body is None else 200
        except TooLarge:
            status, body = self._refuse_result(worker_id, job_id)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        await answer(send, status, body)

    def _authorize(self, scope: Scope, endpoint_id: str, worker_id: str) -> Worker:
        """Let a worker in by the key, or by its id if it was announced.

        The SDK prefers a key from `~/.runpod/config.toml` to the one in its environment, so on a developer's machine
        a worker of ours may come with a foreign key; its id is as hard to guess.
        """
        given = header(scope, b"authorization") or ""
        announced = worker_id in self._platform.endpoint(endpoint_id).workers
        if not worker_id or (not announced and given.removeprefix("Bearer ") != self._platform.rules.api_key):
            raise invalid_key()
        return self._platform.hear(endpoint_id, worker_id)

    async def _take(self, scope: Scope, receive: Receive, worker: Worker, *, batch: bool) -> Any:
        endpoint = self._platform.endpoint(worker.endpoint_id)
        hold = self._platform.rules.take_hold_seconds
        first = await unless_gone(
            receive,
            self._platform.wait_for(endpoint, lambda: self._platform.take(endpoint.id, worker.id), hold),
        )
        if first is None:
            return None
        if not batch:
            return first.as_work()
        taken = [first]
        size = parse_qs(scope["query_string"].decode("latin-1")).get("batch_size", ["1"])[0]
        wanted = min(int(size), MOST_AT_ONCE) if size.isascii() and size.isdigit() else 1
        while len(taken) < wanted and (job := self._platform.take(endpoint.id, worker.id)):
            taken.append(job)
        return [job.as_work() for job in taken]

    async def _stop(self, receive: Receive, worker: Worker) -> Any:
        endpoint = self._platform.endpoint(worker.endpoint_id)
        hold = self._platform.rules.take_hold_seconds
        await unless_gone(receive, self._platform.wait_for(endpoint, lambda: worker.stops or None, hold))
        stops, worker.stops = worker.stops, []
        return {"jobsToStop": stops} if stops else None

    def _report(self, operation: str, worker: Worker, job_id: str, raw: bytes) -> Any:
        if operation == "ping":
            return {}
        try:
            said = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise bad_request("body: invalid JSON") from None
        if not isinstance(said, dict):
            raise bad_request("body: must be a JSON object")
        # Whatever a worker says about a job that it no longer holds (cancelled, lost, deleted) comes too late.
        if job_id in worker.holding:
            if operation == "job-stream":
                self._platform.stream(job_id, said.get("output"))
            else:
                self._result(job_id, said)
        if said.get("stopPod") and worker.pod is not None:
            worker.pod.refresh()
        return {}

    def _result(self, job_id: str, said: dict[str, Any]) -> None:
        if said.get("status") == "IN_PROGRESS":
            self._platform.progress(job_id, said.get("output"))
        elif said.get("error"):
            self._platform.fail(job_id, said["error"], said.get("output", ABSENT))
        else:
            # A generator that does not aggregate posts an empty list: its results are on the stream alone.
            output = said.get("output", ABSENT)
            self._platform.complete(job_id, ABSENT if output == [] else output)

    def _refuse_result(self, worker_id: str, job_id: str) -> tuple[int, Any]:
        """Refuse a result over the limit; the job ends COMPLETED without output, as seen in the field."""
        for endpoint in self._platform.endpoints.values():
            worker = endpoint.workers.get(worker_id)
            if worker is not None and job_id in worker.holding:
                self._platform.complete(job_id)
        refusal = body_too_large(self._platform.rules.result_body_bytes)
        return refusal.status, refusal.body
