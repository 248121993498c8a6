"""`python -m tests.bench.inflight.gateway PORT KEY PLAN FINDINGS`: the local RunPod with a plan, until SIGTERM.

The jobs of the plan run from the start; SIGUSR1 starts the clock by which they end. What comes over /run runs for the
seconds that its input names. RunPod's documented limits hold. At the end it writes down what only RunPod knows: when
each job ended, when its webhook was first sent, and when it was asked.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvloop

from tests.local.runpod.__main__ import HOST, server_for
from tests.local.runpod.jobs import Job, Policy
from tests.local.runpod.limits import Limits
from tests.local.runpod.platform import Platform
from tests.local.runpod.refusals import Refusal
from tests.local.runpod.rules import Rules

ENDPOINT = "flight"
OUTPUT = {"text": "The sea is wide, and it was here before us."}
_POLICY = Policy(execution_timeout_ms=3_600_000, ttl_ms=86_400_000)


@dataclass(frozen=True, slots=True)
class Planned:
    """A job that runs from the start, for `ran_seconds` by then; `ends_after` the signal, or never if None."""

    remote_id: str
    webhook: str | None
    ran_seconds: float
    ends_after: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will happen; without `webhooks` those of jobs that come over /run are lost."""

    jobs: Sequence[Planned]
    webhooks: bool


@dataclass(slots=True)
class Findings:
    """By RunPod's clock, which is this machine's: seconds since 1970, by the job's id."""

    ended: dict[str, float] = field(default_factory=dict)
    ran_seconds: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)
    """Every status call that reached us, refused ones too."""
    runs: int = 0
    refused: int = 0
    """Calls over a limit: 429s."""


class CountedLimits(Limits):
    """The limits, and who came up against them."""

    findings: Findings

    @contextmanager
    def admit(self, endpoint_id: str, operation: str, workers: int) -> Iterator[None]:
        """Note the call, and judge it as ever."""
        if operation == "status":
            self.findings.asked.append(time.time())
        self.findings.runs += operation == "run"
        with ExitStack() as held:
            try:
                held.enter_context(super().admit(endpoint_id, operation, workers))
            except Refusal:
                self.findings.refused += 1
                raise
            yield


class Flight:
    """The platform, moved by the plan."""

    def __init__(self, plan: Plan, *, api_key: str) -> None:
        self.findings = Findings()
        self.platform = platform = Platform(
            [ENDPOINT],
            rules=Rules(api_key=api_key, calls_kept=1, webhook_attempts_kept=1),
            clock=time.time,
            webhook_client=httpx.AsyncClient(trust_env=False, event_hooks={"request": [self._note_webhook]}),
        )
        limits = CountedLimits(platform.rules.limits, platform.clock)
        limits.findings = self.findings
        platform.limits = limits
        if not plan.webhooks:
            platform.weather.order("webhook_lost")
        self._plan = plan
        self._by_webhook = {job.webhook: job.remote_id for job in plan.jobs if job.webhook}
        for job in plan.jobs:
            self._take(job)

    def _take(self, planned: Planned) -> None:
        now = self.platform.clock()
        began = now - planned.ran_seconds
        job = Job(
            id=planned.remote_id,
            endpoint_id=ENDPOINT,
            input={"prompt": "in flight"},
            webhook=planned.webhook,
            policy=_POLICY,
            s3_config=None,
            sync=False,
            queued_at=now,
            ready_at=now,
        )
        endpoint = self.platform.endpoint(ENDPOINT)
        self.platform._life.begin(endpoint, job)
        self.platform.take(ENDPOINT)
        job.queued_at = job.ready_at = job.started_at = began

    def begin(self) -> None:
        """The clock runs: every job ends when the plan says."""
        loop = asyncio.get_running_loop()
        for job in self._plan.jobs:
            if job.ends_after is not None:
                loop.call_later(job.ends_after, self._end, job.remote_id)

    async def work(self) -> None:
        """Whatever comes over /run is run at once, however much there is."""
        while True:
            job = await self.platform.next_job(ENDPOINT, patience_seconds=86_400)
            asyncio.get_running_loop().call_later(job.input["seconds"], self._end, job.id)

    def _end(self, job_id: str) -> None:
        job = self.platform.complete(job_id, OUTPUT)
        if job.ended_at is not None and job.started_at is not None:
            self.findings.ended[job_id] = job.ended_at
            self.findings.ran_seconds[job_id] = job.ended_at - job.started_at

    async def _note_webhook(self, request: httpx.Request) -> None:
        remote_id = self._by_webhook.get(str(request.url))
        if remote_id is not None:
            self.findings.told.setdefault(remote_id, time.time())


async def serve(listener: socket.socket, api_key: str, plan: Plan) -> Findings:
    """Serve until a signal comes."""
    flight = Flight(plan, api_key=api_key)
    server = server_for(flight.platform)
    loop = asyncio.get_running_loop()
    working = asyncio.create_task(flight.work())

    def leave() -> None:
        working.cancel()
        flight.platform.close()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    loop.add_signal_handler(signal.SIGUSR1, flight.begin)
    await server.serve(sockets=[listener])
    return flight.findings


def main() -> None:
    """Read the plan, serve, write the findings."""
    port, api_key, plan_file, findings_file = sys.argv[1:5]
    told: dict[str, Any] = orjson.loads(Path(plan_file).read_bytes())
    plan = Plan([Planned(**job) for job in told["jobs"]], told["webhooks"])
    listener = socket.create_server((HOST, int(port)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        findings = runner.run(serve(listener, api_key, plan))
    Path(findings_file).write_bytes(orjson.dumps(asdict(findings)))


if __name__ == "__main__":
    main()
