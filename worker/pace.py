"""When to ask RunPod about a job again. Webhooks come first; this is for those that never come (queue.md, Design 6).

While an endpoint's webhooks come, polling is patient: halfway to the median of the recent jobs, to see whether it runs;
when half of them have ended, then every so often until most have, then ever more slowly.

While they do not, polling is what sees an end, and is to see it within 2 s, or within 15 % of the run. A running job is
asked about whenever it has run an eighth longer, but not before the shortest of the recent runs would be over; one in
RunPod's queue as soon as it could have run. What is due and may not be asked, because the limit is short, waits in the
order in which it came due, so that all are late by about as much.

Always a little sooner by chance, so that jobs sent together are not asked about together.
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
# Unheard: with the loop's own idling and the exchange these stay below 2 s and 15 %.
_KEEN = timedelta(seconds=1.25)
_KEEN_SHARE = 0.13
_KEEN_LONGEST = timedelta(seconds=15)  # so that where the limit is short all wait about as long: long runs, too
_SHORT = 0.05  # how many of the runs may be over before the first question
_HEARD_MEMORY = 20
_HEARD_LEAST = 5
_HEARD_SHARE = 0.8  # an end that a poll saw just before its webhook came counts as unheard, too


class Durations:
    """How long something took lately; a bounded memory."""

    def __init__(self) -> None:
        """Know none."""
        self._recent: deque[float] = deque(maxlen=_MEMORY)
        self._sorted: list[float] = []

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def add(self, duration: timedelta) -> None:
        """Learn one."""
        if len(self._recent) == _MEMORY:
            self._sorted.remove(self._recent[0])
        self._recent.append(duration.total_seconds())
        insort(self._sorted, duration.total_seconds())

    def quantile(self, share: float) -> timedelta:
        """The duration within which this share of them ended. There must be one."""
        return timedelta(seconds=self._sorted[min(int(share * len(self._sorted)), len(self._sorted) - 1)])


class History:
    """An endpoint's last jobs: how long they took from our submit, how long they ran, whether webhooks told of them."""

    def __init__(self, expected: timedelta) -> None:
        """Before the first job has ended, `expected` is all we know."""
        self._lives = Durations()
        self._runs = Durations()
        self._heard: deque[bool] = deque(maxlen=_HEARD_MEMORY)
        self._expected = expected

    def add(self, *, waited: timedelta, ran: timedelta, heard: bool) -> None:
        """Learn of a job that ended; `heard`: its webhook had come before we asked."""
        self._lives.add(waited + ran)
        self._runs.add(ran)
        self._heard.append(heard)

    @property
    def webhooks_come(self) -> bool:
        """Whether webhooks told of most of the last ends. Of too few it cannot be said."""
        return len(self._heard) >= _HEARD_LEAST and sum(self._heard) >= _HEARD_SHARE * len(self._heard)

    def quantile(self, share: float) -> timedelta:
        """The time from submit to end within which this share of jobs ended."""
        if not self._lives:
            return self._expected * (1 if share <= 0.5 else _SLOW_SPREAD)
        return self._lives.quantile(share)

    @property
    def short_run(self) -> timedelta:
        """Few runs are over sooner. Until history speaks, half the expected run."""
        return self._runs.quantile(_SHORT) if self._runs else self._expected / 2


class Pace:
    """How patient to be with each endpoint. In memory: a fresh process is a little less patient."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._histories: dict[str, History] = {}

    def history(self, endpoint_id: str, *, expected: timedelta) -> History:
        """What is known of an endpoint."""
        return self._histories.setdefault(endpoint_id, History(expected))

    def webhooks_come(self, endpoint_id: str) -> bool:
        """Whether an endpoint's ends are told by its webhooks, as far as we know."""
        history = self._histories.get(endpoint_id)
        return history is not None and history.webhooks_come

    def next_poll(self, history: History, *, age: timedelta, ran: timedelta | None) -> timedelta:
        """How long to wait before asking about a job that was sent `age` ago, and runs since `ran`; None: not yet."""
        if history.webhooks_come:
            wait = _patient(history, age)
        elif ran is None:
            wait = max(_FIRST_LOOK, min(history.short_run, history.quantile(0.5) / 2))
        else:
            wait = max(_KEEN, min(ran * _KEEN_SHARE, _KEEN_LONGEST), history.short_run - ran)
        jitter = 1 - _JITTER * random.random()  # noqa: S311 - spreads load, guards nothing
        return max(_SHORTEST, min(wait, _LONGEST)) * jitter


def _patient(history: History, age: timedelta) -> timedelta:
    median, slow = history.quantile(0.5), history.quantile(0.9)
    if age < median:
        return min(median - age, max(_FIRST_LOOK, median / 2))
    return (slow - median) / 4 if age < slow else age * _LATE_SHARE
