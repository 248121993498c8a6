"""RunPod's rate limits: per endpoint and operation, calls in ten seconds and calls at once."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.local.runpod.clock import Clock
from tests.local.runpod.refusals import too_many_requests
from tests.local.runpod.rules import Limit

WINDOW_SECONDS = 10.0


class Limits:
    """Counts the calls and refuses those above the limit."""

    def __init__(self, limits: Mapping[str, Limit], clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._recent: dict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._at_once: dict[tuple[str, str], int] = defaultdict(int)

    @contextmanager
    def admit(self, endpoint_id: str, operation: str, workers: int) -> Iterator[None]:
        """Hold a place for one call to an endpoint with so many workers. Raises Refusal (429) when there is none."""
        limit = self._limits.get(operation)
        if limit is None:
            yield
            return
        key = (endpoint_id, operation)
        if limit.concurrent is not None and self._at_once[key] >= limit.concurrent:
            raise too_many_requests()
        if limit.per_ten_seconds is not None:
            self._count(self._recent[key], max(limit.per_ten_seconds, workers * limit.per_worker))
        self._at_once[key] += 1
        try:
            yield
        finally:
            self._at_once[key] -= 1

    def _count(self, recent: deque[float], allowed: int) -> None:
        now = self._clock()
        while recent and recent[0] <= now - WINDOW_SECONDS:
            recent.popleft()
        if len(recent) >= allowed:
            raise too_many_requests()
        recent.append(now)
