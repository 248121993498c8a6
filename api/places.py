"""What a live stream tells of places in line and of the time left: when there is news of them."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from api.durations import Seconds
from api.estimates import Queue

TOLD_SECONDS = 5.0
"""How often at most another time is told of one generation; another place is told at once."""
CHANGED_SHARE = 0.1
CHANGED_SECONDS = 1
"""A time is another one when it differs by more than a tenth of what was told, or by a second, whichever is more."""
TOLD_AT_ONCE = 20
"""Of how many another time is told at one look; the others are told at the next ones, the longest untold first."""


class Told(NamedTuple):
    """What was told of one generation, and when."""

    queue: Queue
    at: float


def news(told: Mapping[UUID, Told], queues: Mapping[UUID, Queue], *, now: float) -> list[UUID]:
    """Which of these are told: those that nothing was told of, that stand elsewhere, or that take another time."""
    moved, later = [], []
    for generation_id, queue in queues.items():
        before = told.get(generation_id)
        if before is None or _place(before.queue) != _place(queue):
            moved.append(generation_id)
        elif now - before.at >= TOLD_SECONDS and _differ(before.queue["eta_seconds"], queue["eta_seconds"]):
            later.append(generation_id)
    return moved + sorted(later, key=lambda generation_id: told[generation_id].at)[:TOLD_AT_ONCE]


def _place(queue: Queue) -> tuple[int | None, bool]:
    return queue["position"], queue["held_back"]


def _differ(before: Seconds | None, after: Seconds | None) -> bool:
    if before is None or after is None:
        return before is not after
    pairs = ((before["p50"], after["p50"]), (before["p90"], after["p90"]))
    return any(abs(new - old) > max(CHANGED_SHARE * old, CHANGED_SECONDS) for old, new in pairs)
