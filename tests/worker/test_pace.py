"""Polling is patient before the median, keen until p90, and then ever more patient; always within its bounds."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.pace import History, Pace


def history(*seconds: float, expected: float = 3) -> History:
    known = History(timedelta(seconds=expected))
    for each in seconds:
        known.add(timedelta(seconds=each))
    return known


def test_the_first_question_comes_halfway_and_the_next_when_half_have_ended() -> None:
    known = history(*[10] * 10)
    assert 4 <= Pace().next_poll(known, age=timedelta(0)).total_seconds() <= 6
    assert 4 <= Pace().next_poll(known, age=timedelta(seconds=5)).total_seconds() <= 6
    assert Pace().next_poll(history(*[1] * 9), age=timedelta(0)) <= timedelta(seconds=1.2), "a short job is asked once"


def test_before_any_history_the_profiles_guess_counts() -> None:
    wait = Pace().next_poll(history(expected=4), age=timedelta(0))
    assert 1.6 <= wait.total_seconds() <= 2.4


def test_old_durations_are_forgotten() -> None:
    known = history(*[100] * 500, *[2] * 200)
    assert known.quantile(0.9) == timedelta(seconds=2)


@given(
    st.lists(st.floats(0, 5000), max_size=50),
    st.floats(0, 100_000),
    st.floats(0.1, 600),
)
def test_waits_stay_within_bounds(durations: list[float], age: float, expected: float) -> None:
    wait = Pace().next_poll(history(*durations, expected=expected), age=timedelta(seconds=age))
    assert timedelta(milliseconds=400) <= wait <= timedelta(seconds=36)


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=400))
def test_quantiles_are_durations_that_were_seen_lately(durations: list[float]) -> None:
    known = history(*durations)
    recent = {timedelta(seconds=each) for each in durations[-200:]}
    assert known.quantile(0.5) in recent
    assert known.quantile(0.5) <= known.quantile(0.9)
