"""When to ask RunPod about a job again. Webhooks come first; this is for those that never come (queue.md, Design 6).

The first question is put halfway to the median of the endpoint's recent jobs, to see whether it runs; the next when
half of them have ended, then every so often until most have, then ever more slowly; each with jitter, so that jobs sent
together are not asked about together.
"""

import random
from bisect import insort
from collections import deque
from datetime import timedelta

_MEMORY = 200
_SHORTEST = timedelta(milliseconds=500)
_LONGEST = timedelta(seconds=30)
_FIRST_LOOK = timedelta(seconds=1)
_JITTER = 0.2
_LATE_SHARE = 0.15  # past p90, wait another 15 % of the age
_SLOW_SPREAD = 3  # until history speaks, p90 is taken to be three times the expected run


class History:
    """The durations of an endpoint's last jobs, from our submit to RunPod's end; a bounded memory."""

    def __init__(self, expected: timedelta) -> None:
        """Before the first job has ended, `expected` is all we know."""
        self._recent: deque[float] = deque(maxlen=_MEMORY)
        self._sorted: list[float] = []
        self._expected = expected

    def add(self, duration: timedelta) -> None:
        """Learn how long a job took."""
        if len(self._recent) == _MEMORY:
            self._sorted.remove(self._recent[0])
        self._recent.append(duration.total_seconds())
        insort(self._sorted, duration.total_seconds())

    def quantile(self, share: float) -> timedelta:
        """The duration within which this share of jobs ended."""
        if not self._sorted:
            return self._expected * (1 if share <= 0.5 else _SLOW_SPREAD)
        return timedelta(seconds=self._sorted[min(int(share * len(self._sorted)), len(self._sorted) - 1)])


class Pace:
    """How patient to be with each endpoint. In memory: a fresh process is only a little less patient."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._histories: dict[str, History] = {}

    def history(self, endpoint_id: str, *, expected: timedelta) -> History:
        """What is known of an endpoint."""
        return self._histories.setdefault(endpoint_id, History(expected))

    def next_poll(self, history: History, *, age: timedelta) -> timedelta:
        """How long to wait before asking about a job that was sent `age` ago."""
        median, slow = history.quantile(0.5), history.quantile(0.9)
        if age < median:
            wait = min(median - age, max(_FIRST_LOOK, median / 2))
        elif age < slow:
            wait = (slow - median) / 4
        else:
            wait = age * _LATE_SHARE
        jitter = 1 + _JITTER * (random.random() * 2 - 1)  # noqa: S311 - spreads load, guards nothing
        return max(_SHORTEST, min(wait, _LONGEST)) * jitter
