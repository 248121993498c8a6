"""What the last ones tell of the time that one takes still."""

import pytest

from api.durations import Durations, mixed

RUN = Durations([*range(10), *(10 + 2.5 * step for step in range(8)), 30, 40, 50])
"""Half took up to 10 s, nine tenths up to 30 s, the slowest 50 s."""


def test_what_is_sent_counts_from_there() -> None:
    assert RUN.remaining(0) == {"p50": 10, "p90": 30}
    assert RUN.remaining(31) is None, "slower than most: nobody knows"


def test_what_is_left_is_told_by_those_that_took_as_long() -> None:
    """After 20 s three tenths were still going: half of these took up to 27.5 s, nine tenths of them up to 44 s."""
    assert RUN.remaining(20) == {"p50": 8, "p90": 24}
    assert RUN.remaining(10) == {"p50": 13, "p90": 30}


@pytest.mark.parametrize("quantiles", [[10] * 11 + [100] * 10, [0] * 20 + [60], [5.0] * 21, list(range(21))])
def test_what_is_left_is_more_than_nothing_and_less_for_half_than_for_most(quantiles: list[float]) -> None:
    """Also when half of them took ten seconds, and it is going on for fifty."""
    durations = Durations(quantiles)
    for tenths in range(1000):
        left = durations.remaining(tenths / 10)
        assert left is None or 0 < left["p50"] <= left["p90"]


def test_nobody_is_told_that_it_is_ready_who_waits_for_the_slow_half() -> None:
    left = Durations([10] * 11 + [100] * 10).remaining(50)
    assert left == {"p50": 50, "p90": 50}


def test_what_takes_no_time_is_ready_in_a_second() -> None:
    assert Durations([0.0] * 21).remaining(-0.5) == {"p50": 1, "p90": 1}


def test_who_may_go_to_several_is_told_by_each_as_often_as_it_is_sent_there() -> None:
    quick, slow = Durations([10.0] * 21), Durations([100.0] * 21)
    told = mixed([(quick, 30), (slow, 10)])
    assert told is not None
    assert [told.at(share) for share in (0.5, 0.7, 0.8, 0.9)] == [10, 10, 100, 100]
    assert mixed([(quick, 0), (slow, 1)]) is slow
    assert mixed([(quick, 0)]) is None
