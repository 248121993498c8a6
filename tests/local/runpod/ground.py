"""The ground the platform stands on: its endpoints, its clock, and the waiting for something to change."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.local.runpod.clock import Clock, Timers
from tests.local.runpod.endpoints import Endpoint
from tests.local.runpod.jobs import Job
from tests.local.runpod.life import Life
from tests.local.runpod.refusals import endpoint_not_found, job_not_found
from tests.local.runpod.rules import Rules
from tests.local.runpod.weather import Weather
from tests.local.runpod.webhooks import Webhooks

Found = TypeVar("Found")


class Ground:
    """What both sides of the platform share."""

    def __init__(self, *, rules: Rules, clock: Clock) -> None:
        self.rules = rules
        self.clock = clock
        self.weather = Weather(clock)
        self.webhooks = Webhooks(rules, clock, self.weather)
        self.endpoints: dict[str, Endpoint] = {}
        self.closing = False
        self._timers = Timers(clock)
        self._life = Life(rules=rules, clock=clock, timers=self._timers, weather=self.weather, webhooks=self.webhooks)

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """Find an endpoint. Raises Refusal (404)."""
        try:
            return self.endpoints[endpoint_id]
        except KeyError:
            raise endpoint_not_found() from None

    def job(self, job_id: str) -> Job:
        """Find a job on whichever endpoint. Raises Refusal (404)."""
        self.tick()
        for endpoint in self.endpoints.values():
            if job := endpoint.jobs.get(job_id):
                return job
        raise job_not_found()

    def tick(self) -> None:
        """Do what the clock has made due. Every other method does this first."""
        self._timers.run_due()

    async def wait_for(self, endpoint: Endpoint, look: Callable[[], Found | None], seconds: float) -> Found | None:
        """Look until there is something to see, at most `seconds`; None when there was nothing.

        Seconds of the clock or of real time, whichever pass first: a clock that stands still holds nobody for ever.
        """
        deadline, real_deadline = self.clock() + seconds, time.monotonic() + seconds
        while True:
            self.tick()
            found = look()
            left = min(deadline - self.clock(), real_deadline - time.monotonic())
            if found is not None or left <= 0 or self.closing:
                return found
            # Never longer than this, because a clock turned by hand wakes nobody.
            await endpoint.changed.wait(min(left, 0.25))
