"""What an answer of GET /health teaches: how many jobs an endpoint should have of us at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.endpoints import STALE
from worker.capacity import FRESH, learn
from worker.settings import MOST_JOBS

COUNTS = st.integers(0, 2000)


def told(running: int, waiting: int, /, **workers: int) -> dict[str, Any]:
    """An answer; keys that RunPod leaves out are left out."""
    return {"jobs": {"inProgress": running, "inQueue": waiting}, "workers": workers}


@pytest.mark.parametrize(
    ("health", "in_flight", "limit", "why"),
    [
        (told(0, 0), 0, 1, "scaled to nothing: it is woken"),
        (told(0, 1), 1, 1, "and is still asleep"),
        (told(0, 0, initializing=1), 1, 2, "one that starts, for which one is being sent"),
        (told(0, 1, initializing=1), 1, 2, "one that starts"),
        (told(1, 1, ready=1, running=1), 2, 2, "one machine: the job in hand and the one that follows"),
        (told(1, 0, ready=1, running=1), 2, 2, "the same, while we have not seen an end, or one is being sent"),
        (told(0, 2, ready=1, idle=1), 2, 2, "the same, between two jobs"),
        (told(0, 0, ready=8, idle=8), 0, 10, "all that are idle are filled at once"),
        (told(10, 0, ready=10, running=10), 12, 13, "one each: no reason to try twice as many"),
        (told(10, 3, ready=10, running=10), 13, 12, "as many as there are, and a quarter"),
        (told(1, 2, ready=3, idle=2, running=1), 3, 4, "idle, until RunPod starts them by what waits there"),
        (told(2, 0, ready=1, running=1), 2, 4, "side by side, and nobody waits: twice as many"),
        (told(16, 0, ready=1, running=1), 16, 32, "and again"),
        (told(30, 2, ready=1, running=1), 32, 45, "until some wait"),
        (told(30, 15, ready=1, running=1), 45, 45, "and no more than half of what runs"),
        (told(2, 1, ready=1, running=1), 3, 3, "one at least"),
        (told(6, 0, ready=5, running=5), 6, 12, "five machines that run more than one each"),
        (told(3, 9, ready=3, running=3), 12, 4, "seven machines are gone"),
        (told(4, 0, running=1, throttled=3, unhealthy=2), 4, 8, "those that cannot be had are no machines"),
        (told(1, 0, ready=1, running=1), 41, 2 + 39, "forty have ended and we do not know yet"),
        (told(0, 0, ready=1, idle=1), 6, 7, "all have ended and we do not know yet"),
        (told(10, 0, ready=10, running=10), 0, 12, "others use it, too: their capacity may be ours next"),
        (told(10, 50, ready=10, running=10), 3, 12, "others wait there, too"),
        (told(10**15, 0), 0, MOST_JOBS, "nobody queues more"),
    ],
)
def test_one_sample_says(health: dict[str, Any], in_flight: int, limit: int, why: str) -> None:
    assert learn(health, in_flight=in_flight) == limit, why


@pytest.mark.parametrize(
    "health",
    [
        {},
        {"jobs": {"inProgress": 1, "inQueue": 0}},
        {"workers": {"idle": 1}},
        {"jobs": {"inQueue": 1}, "workers": {}},
        {"jobs": {"inProgress": 1}, "workers": {}},
    ],
)
def test_an_answer_without_the_counts_teaches_nothing(health: dict[str, Any]) -> None:
    assert learn(health, in_flight=5) is None


def test_what_ops_are_told_counts_for_as_long_as_it_is_gone_by() -> None:
    assert STALE == FRESH


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_an_endpoint_is_never_left_without_work_that_it_could_have(
    running: int, waiting: int, ready: int, starting: int, in_flight: int
) -> None:
    """Whatever is between us: what is there, and may come, is one more than runs, and as many as it has machines."""
    limit = learn(told(running, waiting, ready=ready, initializing=starting), in_flight=in_flight)
    assert limit is not None
    assert limit >= max(running + 1, ready + starting, 1)
    if waiting == 0 and running == 0 and ready:
        assert limit > in_flight, "a machine stands idle: one more may come"


@given(COUNTS, COUNTS, COUNTS)
def test_where_all_is_seen_a_single_job_waits_for_no_more_than_it_would_in_a_fair_line(
    running: int, waiting: int, machines: int
) -> None:
    """What may wait there is gone through while one job runs; or it is a single one."""
    limit = learn(told(running, waiting, ready=machines), in_flight=running + waiting)
    assert limit is not None
    at_once = max(running, machines, 1)
    assert limit - at_once <= at_once, "all of it, as long as nothing waits"
    if waiting > 0 and at_once > 1:
        assert limit - at_once + 1 <= at_once, "the single one begins when so many have ended"


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_waits_there_makes_no_room_and_what_is_not_there_takes_none(
    running: int, waiting: int, machines: int, in_flight: int, more: int
) -> None:
    def limit(waiting: int, in_flight: int) -> int:
        learnt = learn(told(running, waiting, ready=machines), in_flight=in_flight)
        assert learnt is not None
        return learnt

    assert limit(waiting + more, in_flight) <= limit(waiting, in_flight) <= limit(waiting, in_flight + more)
