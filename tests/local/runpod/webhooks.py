"""Webhooks as RunPod sends them: unsigned, up to three times, ten seconds apart, until somebody answers 200."""

import asyncio
import heapq
import itertools
from collections import deque
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from tests.local.runpod.clock import Clock, Pulse
from tests.local.runpod.rules import Rules
from tests.local.runpod.weather import Trouble, Weather


@dataclass(frozen=True)
class Attempt:
    """One POST that was made; `status` is None when no answer came in time."""

    job_id: str
    url: str
    number: int
    status: int | None
    body: dict[str, Any]

    @property
    def acknowledged(self) -> bool:
        """Whether RunPod is content with the answer."""
        return self.status == 200


@dataclass(eq=False)
class _Delivery:
    endpoint_id: str
    job_id: str
    url: str
    body: dict[str, Any]
    number: int = 1


class Webhooks:
    """What is to be delivered, and what became of it."""

    def __init__(self, rules: Rules, clock: Clock, weather: Weather) -> None:
        self.client: httpx.AsyncClient | None = None
        """Who carries the webhooks; one is made for the network when none was given."""
        self.attempts: deque[Attempt] = deque(maxlen=rules.webhook_attempts_kept)
        self._rules = rules
        self._clock = clock
        self._weather = weather
        self._order = itertools.count()
        self._due: list[tuple[float, int, _Delivery]] = []
        self._held_back: list[_Delivery] = []
        self._queued = Pulse()
        self._own_client: httpx.AsyncClient | None = None

    @property
    def pending(self) -> int:
        """How many deliveries have not been acknowledged or given up, due or not."""
        return len(self._due)

    def post(self, endpoint_id: str, url: str, body: dict[str, Any]) -> None:
        """Have `body` delivered to `url`, as far as the weather lets it."""
        if self._weather.strikes(Trouble.WEBHOOK_LOST, endpoint_id):
            return
        delivery = _Delivery(endpoint_id, body["id"], url, body)
        if delayed := self._weather.strikes(Trouble.WEBHOOK_DELAYED, endpoint_id):
            self._put(delivery, delayed.seconds)
        elif reordered := self._weather.strikes(Trouble.WEBHOOK_REORDERED, endpoint_id):
            self._held_back.append(delivery)
            self._put(delivery, reordered.seconds)
        else:
            self._put(delivery, 0)
            if self._weather.strikes(Trouble.WEBHOOK_DOUBLED, endpoint_id):
                self._put(_Delivery(endpoint_id, body["id"], url, body), 0)

    async def deliver_due(self) -> list[Attempt]:
        """Deliver what is due by the clock, one after the other; returns the attempts made."""
        made = []
        while delivery := self._next_due():
            made.append(await self._attempt(delivery))
        return made

    async def deliver_for_ever(self) -> None:
        """Deliver as things fall due, many at once, until cancelled."""
        places = asyncio.Semaphore(self._rules.webhook_concurrency)
        async with asyncio.TaskGroup() as tasks:
            while True:
                await places.acquire()
                while (delivery := self._next_due()) is None:
                    await self._queued.wait(0.05)
                task = tasks.create_task(self._attempt(delivery))
                task.add_done_callback(lambda _: places.release())

    async def aclose(self) -> None:
        """Close the client, if it was made here."""
        if self._own_client is not None:
            await self._own_client.aclose()
            self._own_client = None

    def _put(self, delivery: _Delivery, seconds: float) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, next(self._order), delivery))
        self._queued.beat()

    def _next_due(self) -> _Delivery | None:
        if not self._due or self._due[0][0] > self._clock():
            return None
        return heapq.heappop(self._due)[2]

    async def _attempt(self, delivery: _Delivery) -> Attempt:
        began = self._clock()
        status = await self._send(delivery)
        attempt = Attempt(delivery.job_id, delivery.url, delivery.number, status, delivery.body)
        self.attempts.append(attempt)
        if not attempt.acknowledged and delivery.number < self._rules.webhook_attempts:
            delivery.number += 1
            # From the beginning of this try: a receiver that takes ten seconds is called again at once.
            self._put(delivery, max(0.0, began + self._rules.webhook_interval_seconds - self._clock()))
        self._let_go_after(delivery)
        return attempt

    def _let_go_after(self, delivery: _Delivery) -> None:
        """Make due what was held back until another delivery of its endpoint had gone."""
        now = self._clock()
        if delivery in self._held_back:
            self._held_back.remove(delivery)
            return
        ready = [held for held in self._held_back if held.endpoint_id == delivery.endpoint_id]
        for held in ready:
            self._held_back.remove(held)
            self._due = [(now if one is held else due, order, one) for due, order, one in self._due]
        if ready:
            heapq.heapify(self._due)
            self._queued.beat()

    async def _send(self, delivery: _Delivery) -> int | None:
        client = self.client or self._network()
        try:
            async with asyncio.timeout(self._rules.webhook_timeout_seconds):
                response = await client.post(
                    delivery.url,
                    content=orjson.dumps(delivery.body),
                    headers={"content-type": "application/json"},
                    timeout=None,
                )
        except Exception:  # what an address may be refused for is without end: a name, a port, a certificate
            return None
        return response.status_code

    def _network(self) -> httpx.AsyncClient:
        if self._own_client is None:
            self._own_client = httpx.AsyncClient(trust_env=False, headers={"user-agent": "RunPod-Webhook"})
        return self._own_client
