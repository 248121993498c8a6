"""What an answer of GET /health teaches: how many jobs an endpoint should have of us at once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.endpoints import STALE
from worker.capacity import FRESH, UNLEARNT, has_one_ahead, is_out, learn, room, seen
from worker.settings import MOST_JOBS

COUNTS = st.integers(0, 2000)


def told(running: int, waiting: int, /, **workers: int) -> dict[str, Any]:
    """An answer; keys that RunPod leaves out are left out."""
    return {"jobs": {"inProgress": running, "inQueue": waiting}, "workers": workers}


NONE = {"idle": 0, "ready": 0, "running": 0, "initializing": 0, "throttled": 0, "unhealthy": 0}


@pytest.mark.parametrize("broken", ["throttled", "unhealthy"])
@pytest.mark.parametrize("able", ["idle", "ready", "running", "initializing"])
def test_an_endpoint_is_out_when_it_has_machines_and_none_is_of_use(broken: str, able: str) -> None:
    there = {**NONE, broken: 2}
    assert is_out(told(0, 1, **there))
    assert not is_out(told(1, 1, **there)), "a job is in hand"
    assert not is_out(told(0, 1, **{**there, able: 1})), "one works, or starts"
    assert not is_out(told(0, 1, **{name: count for name, count in there.items() if name != able})), "it did not say"
    assert not is_out(told(0, 1, **NONE)), "scaled to nothing: a job wakes it"
    assert not is_out({})


@pytest.mark.parametrize(
    ("health", "limit", "why"),
    [
        (told(0, 0), 2, "scaled to nothing: it is woken, though it is in doubt whether one is there"),
        (told(0, 1), 2, "and is still asleep"),
        (told(0, 1, initializing=4), 2, "those that start may take a quarter of an hour"),
        (told(1, 1, ready=1, running=1, initializing=4), 2, "the same beside one that works"),
        (told(1, 1, ready=1, running=1), 2, "one machine: the job in hand and the one that follows"),
        (told(1, 0, ready=1, running=1), 2, "the same, while we have not seen an end, or one is being sent"),
        (told(0, 2, ready=1, idle=1), 2, "the same, between two jobs"),
        (told(0, 0, ready=8, idle=8), 10, "all that are idle are filled at once"),
        (told(0, 0, idle=6, running=2), 10, "by whichever count they are more"),
        (told(0, 0, ready=8, idle=1), 10, "by either"),
        (told(10, 0, ready=10, running=10), 12, "one each: no reason to try twice as many"),
        (told(10, 3, ready=10, running=10), 12, "as many as there are, and a quarter"),
        (told(1, 2, ready=3, idle=2, running=1), 4, "idle, until RunPod starts them by what waits there"),
        (told(2, 0, ready=1, running=1), 3, "side by side, and nobody waits: nearly twice as many"),
        (told(16, 0, ready=1, running=1), 31, "and again"),
        (told(30, 2, ready=1, running=1), 45, "until some wait"),
        (told(30, 15, ready=1, running=1), 45, "and no more than half of what runs"),
        (told(2, 1, ready=1, running=1), 3, "one at least"),
        (told(6, 0, ready=5, running=5), 11, "five machines that run more than one each"),
        (told(3, 9, ready=3, running=3), 4, "seven machines are gone"),
        (told(4, 0, running=1, throttled=3, unhealthy=2), 7, "those that cannot be had are no machines"),
        (told(10, 50, ready=10, running=10), 12, "others use it, too: their capacity may be ours next"),
        (told(10**15, 0), MOST_JOBS, "nobody queues more"),
    ],
)
def test_one_sample_says(health: dict[str, Any], limit: int, why: str) -> None:
    assert learn(health) == limit, why


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
    assert learn(health) is None


def test_what_ops_are_told_counts_for_as_long_as_it_is_gone_by() -> None:
    assert STALE == FRESH


@pytest.mark.parametrize(
    ("limit", "jobs", "unseen", "more", "why"),
    [
        (2, 0, 0, 2, "it has nothing"),
        (2, 2, 0, 0, "it has what it may"),
        (2, 5, 0, -3, "it has too many: machines are gone"),
        (2, 41, 40, 1, "forty have ended and we do not know yet"),
        (2, 99, 98, 1, "its answers may not show what it has"),
        (2, 100, 99, 0, "so it has no more than if it did not answer"),
        (300, 299, 0, 1, "it may be known to run more than that"),
        (300, 300, 200, 0, "and no more than is known"),
    ],
)
def test_by_what_it_has_it_may_have_so_many_more(limit: int, jobs: int, unseen: int, more: int, why: str) -> None:
    assert room(limit, jobs=jobs, unseen=unseen) == more, why


def test_what_was_there_ran_or_waited() -> None:
    assert seen(told(3, 4)) == 7
    assert seen(told(10**15, 10**15)) == MOST_JOBS, "it is kept in an integer"


@given(COUNTS, COUNTS, COUNTS)
def test_an_endpoint_is_never_left_without_work_that_it_could_have(running: int, waiting: int, ready: int) -> None:
    """It should have one more than runs, and as many as it has machines."""
    limit = learn(told(running, waiting, ready=ready))
    assert limit is not None
    assert limit >= max(running + 1, ready + 1)


@given(COUNTS, COUNTS, COUNTS)
def test_a_single_job_waits_for_no_more_than_it_would_in_a_fair_line(running: int, waiting: int, machines: int) -> None:
    """Fewer wait than run: it begins when the jobs in hand have ended. Or else what waits is recalled for it."""
    limit = learn(told(running, waiting, ready=machines))
    assert limit is not None
    at_once = max(running, machines, 1)
    assert limit - at_once < at_once or has_one_ahead(limit)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_waits_there_makes_no_room(running: int, waiting: int, machines: int, more: int) -> None:
    limits = [learn(told(running, there, ready=machines)) for there in (waiting + more, waiting)]
    assert limits == sorted(limits, key=lambda limit: limit or 0)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_ended_unseen_takes_no_room_as_long_as_there_are_few(
    limit: int, jobs: int, more: int, unseen: int
) -> None:
    assert room(limit, jobs=jobs + more, unseen=unseen + more) <= room(limit, jobs=jobs, unseen=unseen)
    assert jobs + room(limit, jobs=jobs, unseen=unseen) <= max(limit, UNLEARNT)
