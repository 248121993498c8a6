"""How many jobs an endpoint should have of us at once, learnt from what its GET /health says that it runs at once.

What we send waits at RunPod, first come, first served: whatever a crowd has there is before whoever comes since. So an
endpoint has what it can run and a little more; the rest waits in our line, which is fair. RunPod does not say how much
it can run, but each sample (worker/health.py) shows some of it. What an operator said goes before what was learnt.

What it has of us now is found at each claim (worker/line.py). A sample counts all jobs that were there, so whatever we
believe to be there besides has ended without our knowing, and takes no room.
"""

from collections.abc import Mapping
from datetime import timedelta

from worker.settings import MOST_JOBS

LEAST = 2
"""The lowest limit that is learnt: one job runs, and one waits."""
UNLEARNT = 100
"""Where nobody said a number and nothing was learnt lately."""
FRESH = timedelta(seconds=90)
"""How long a sample counts: two that RunPod did not answer are passed over (api/endpoints.py says the same)."""
SOON = timedelta(seconds=2)
"""How soon after it was asked an endpoint is asked again when its limit keeps somebody waiting …"""
SETTLED = timedelta(seconds=1)
"""… and how long after that was found: what has just been claimed for it is there by then."""

_OUT = ("throttled", "unhealthy")
_NOT_OUT = ("idle", "ready", "running", "initializing")


def learn(health: Mapping[str, Mapping[str, int]]) -> int | None:
    """The limit that an answer of GET /health teaches: how many jobs should be there.

    It may have a job for each machine, and a quarter more, one at least: one has to wait there, or machines would wait
    for us, and it could not be seen that they run no more. Where that is not enough, and they run several side by side,
    nobody tells how many. While none waits, nearly twice as many are tried; while some do, half as many as run may
    wait: what has just come waits for a moment, too, and with fewer allowed that moment would look like the end of
    their room, at half of it. (Where each has one job, more are never tried: ten machines would be sent twenty.)

    Where several run, fewer wait than run: when the jobs in hand have ended, there is a place for whoever came to a
    crowd meanwhile. Where one runs at once, one waits, and is recalled for them (`has_one_ahead`, worker/recall.py).

    RunPod's counts are of everybody who uses the endpoint. What others run is capacity that we may have next, so it is
    not taken off. Idle machines count while jobs wait, too, since RunPod starts them by what waits there. Throttled and
    unhealthy ones are not to be had, nor are those that start: that may take a quarter of an hour. An endpoint without
    any is sent what one machine would have: one job wakes it, and one more may go while it is in doubt whether that is
    there. None: an answer without the counts teaches nothing.
    """
    jobs, workers = health.get("jobs", {}), health.get("workers")
    running, waiting = jobs.get("inProgress"), jobs.get("inQueue")
    if running is None or waiting is None or workers is None:
        return None
    machines = max(1, workers.get("ready", 0), workers.get("idle", 0) + workers.get("running", 0))
    if running <= machines:
        there = machines + max(1, machines // 4)
    else:
        there = running + max(1, running // 2) if waiting else 2 * running - 1
    return min(there, MOST_JOBS)


def seen(health: Mapping[str, Mapping[str, int]]) -> int:
    """How many jobs were there, by an answer that taught something: whoever's, running or waiting."""
    return min(health["jobs"]["inProgress"] + health["jobs"]["inQueue"], MOST_JOBS)


def is_out(health: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether an endpoint has machines, none of which works or starts: RunPod has no room for them, or they are broken.

    One without any is none of these: the first job wakes it. Nor is one that leaves a count out, or has a job in hand.
    """
    workers = health.get("workers", {})
    none = all(workers.get(name) == 0 for name in _NOT_OUT) and health.get("jobs", {}).get("inProgress") == 0
    return none and any(workers.get(name) for name in _OUT)


def room(limit: int, *, jobs: int, unseen: int) -> int:
    """How many more jobs an endpoint may have of us that has these by our own count; below 0: it has too many.

    What ended unseen takes no room. But an endpoint whose answers do not show our jobs, whatever runs there, would seem
    empty for ever: by our own count it has no more than where nothing was learnt.
    """
    return min(limit - (jobs - unseen), max(limit, UNLEARNT) - jobs)


def has_one_ahead(limit: int) -> bool:
    """Whether one job runs at such an endpoint, and one waits: that was sent ahead, and would be in somebody's way."""
    return limit <= LEAST
