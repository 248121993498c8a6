"""Polling is patient while webhooks come, and while they do not sees every end in time; always within its bounds."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.pace import Durations, History, Pace

NOW = timedelta(0)
RUNS = st.lists(st.floats(0, 5000), max_size=50)


def seconds(each: float) -> timedelta:
    return timedelta(seconds=each)


def history(*runs: float, expected: float = 3, heard: bool = True) -> History:
    known = History(seconds(expected))
    for each in runs:
        known.add(waited=NOW, ran=seconds(each), heard=heard)
    return known


def test_where_webhooks_come_the_first_question_comes_halfway_and_the_next_when_half_have_ended() -> None:
    known = history(*[10] * 10)
    assert 4 <= Pace().next_poll(known, age=NOW, ran=None).total_seconds() <= 6
    assert 4 <= Pace().next_poll(known, age=seconds(5), ran=seconds(5)).total_seconds() <= 6
    short = Pace().next_poll(history(*[1] * 9), age=NOW, ran=None)
    assert short <= seconds(1.2), "a short job is asked once"


def test_before_any_history_the_profiles_guess_counts() -> None:
    wait = Pace().next_poll(history(expected=4), age=NOW, ran=None)
    assert 1.6 <= wait.total_seconds() <= 2.4


def test_webhooks_that_stop_coming_are_missed_soon_and_trusted_again_when_they_come() -> None:
    known = history(*[60] * 200)
    trusted = [known.webhooks_come]
    for heard in (False, True):
        for _ in range(20):
            known.add(waited=NOW, ran=seconds(60), heard=heard)
            trusted.append(known.webhooks_come)
    assert trusted.index(False) <= 5
    assert trusted[0]
    assert trusted[-1]


def test_a_webhook_that_a_poll_overtook_now_and_then_changes_nothing() -> None:
    known = history(*[60] * 20)
    for number in range(100):
        known.add(waited=NOW, ran=seconds(60), heard=number % 8 > 0)
        assert known.webhooks_come


def test_of_too_few_ends_it_cannot_be_said_whether_webhooks_come() -> None:
    assert not history(*[60] * 4).webhooks_come


def lateness(known: History, run: float) -> float:
    """How long after the end of a run a job is asked about that RunPod starts at once, in seconds."""
    pace, age = Pace(), NOW
    age += pace.next_poll(known, age=age, ran=None)
    while age < seconds(run):
        age += pace.next_poll(known, age=age, ran=age)
    return (age - seconds(run)).total_seconds()


@given(st.floats(1, 2000), st.lists(st.floats(1, 2000), min_size=5, max_size=50))
def test_without_webhooks_an_end_is_asked_for_within_two_seconds_or_15_percent(run: float, others: list[float]) -> None:
    """All but the runs that are shorter than nearly all, and with time left for the loop and the exchange."""
    known = history(*others, heard=False)
    if seconds(run) < known.short_run * 0.85:
        return
    assert lateness(known, run) <= max(1.5, 0.15 * run, run * 0.42 if seconds(run) < known.short_run * 1.2 else 0)


def test_without_webhooks_nobody_is_asked_again_and_again_before_a_run_can_be_over() -> None:
    known, pace, age, asked = history(*[20, 21, 22, 23, 24] * 4, heard=False), Pace(), NOW, 0
    while age < seconds(20):
        age += pace.next_poll(known, age=age, ran=age if asked else None)
        asked += 1
    assert asked <= 5


def test_without_webhooks_what_waits_in_runpods_queue_is_asked_about_as_soon_as_it_could_have_run() -> None:
    known = history(*[8] * 10, heard=False)
    assert 3.2 <= Pace().next_poll(known, age=seconds(500), ran=None).total_seconds() <= 4.8


def test_old_durations_are_forgotten() -> None:
    known = history(*[100] * 500, *[2] * 200)
    assert known.quantile(0.9) == seconds(2)
    assert known.short_run == seconds(2)


@given(
    RUNS, st.floats(0, 100_000), st.none() | st.floats(0, 100_000), st.floats(0.1, 600), st.sampled_from([True, False])
)
def test_waits_stay_within_bounds(
    runs: list[float], age: float, ran: float | None, expected: float, heard: Any
) -> None:
    known = history(*runs, expected=expected, heard=heard)
    wait = Pace().next_poll(known, age=seconds(age), ran=None if ran is None else seconds(ran))
    assert timedelta(milliseconds=400) <= wait <= seconds(30)


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=400))
def test_quantiles_are_durations_that_were_seen_lately(durations: list[float]) -> None:
    known = Durations()
    for each in durations:
        known.add(seconds(each))
    recent = {seconds(each) for each in durations[-200:]}
    assert known.quantile(0.5) in recent
    assert known.quantile(0.5) <= known.quantile(0.9)
