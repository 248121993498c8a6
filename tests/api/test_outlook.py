"""How long one takes that waits for an endpoint behind others: what the endpoint's own jobs say."""

import pytest

from api.durations import Durations
from api.outlook import Door, Outlook
from tests.api.test_durations import RUN

SLOW = Durations([100.0] * 21)
QUICK = Durations([10.0] * 21)


def alone(**told: object) -> Outlook:
    return Outlook.of([door("only", **told)], pooled=RUN)


def door(name: str, **told: object) -> Door:
    return Door(name=name, endpoint_id=f"ep-{name}", **{"durations": RUN, **told})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("in_flight", "per_second", "ahead", "expected"),
    [
        (0, 0, 0, {"p50": 10, "p90": 30}),
        (0, 0, 3, {"p50": 40, "p90": 120}),
        (1, 0, 3, {"p50": 40, "p90": 120}),
        (10, 0, 3, {"p50": 13, "p90": 39}),
        (0, 0.5, 3, {"p50": 16, "p90": 36}),
        (1, 0.5, 3, {"p50": 16, "p90": 36}),
        (100, 0.5, 3, {"p50": 11, "p90": 31}),
    ],
)
def test_the_line_moves_as_fast_as_the_faster_evidence_says(
    in_flight: int, per_second: float, ahead: int, expected: object
) -> None:
    assert alone(in_flight=in_flight, per_second=per_second).behind(ahead) == expected


def test_without_a_history_nothing_is_told() -> None:
    assert Outlook.of([door("only", durations=None, in_flight=5, per_second=1)]).behind(0) is None


def test_what_took_no_time_is_no_division_by_zero() -> None:
    assert alone(durations=Durations([0.0] * 21), in_flight=1).behind(2) == {"p50": 1, "p90": 1}


def test_the_first_in_line_waits_for_the_job_in_hand_when_there_is_no_place() -> None:
    """After 4 s half of those that took longer are ready after 15 s, nine tenths after 34 s."""
    full = {"limit": 1, "jobs": 1, "in_flight": 1}
    assert alone(**full, ages=[4.0]).behind(0) == {"p50": 10 + 11, "p90": 30 + 30}
    assert alone(**full, ages=[31.0]).behind(0) == {"p50": 10, "p90": 30}, "it may end now: not less than nothing"
    assert alone(**full).behind(0) == {"p50": 20, "p90": 60}, "its age is not known"


def test_of_several_in_hand_the_one_that_ends_first_makes_room() -> None:
    """The oldest, unless it has taken so long that nobody knows."""
    full = {"durations": SLOW, "limit": 3, "jobs": 3, "in_flight": 3}
    assert alone(**full, ages=[500.0, 90.0, 10.0]).behind(0) == {"p50": 110, "p90": 110}


def test_who_finds_a_place_does_not_wait() -> None:
    assert alone(limit=3, jobs=1, in_flight=1, ages=[4.0]).behind(1) == {"p50": 10, "p90": 30}
    assert alone(limit=2, jobs=1, in_flight=1, ages=[4.0]).behind(1) == {"p50": 21, "p90": 60}
    assert alone(jobs=1, in_flight=1, ages=[4.0]).behind(0) == {"p50": 10, "p90": 30}, "no limit is known"


def test_who_goes_anywhere_takes_the_place_that_comes_free_first() -> None:
    full = {"durations": SLOW, "limit": 1, "jobs": 1, "in_flight": 1}
    outlook = Outlook.of([door("a", ages=[10.0], **full), door("b", ages=[70.0], **full)])
    assert outlook.behind(0) == {"p50": 130, "p90": 130}
    assert outlook.behind(0, wanted="a") == {"p50": 190, "p90": 190}


def test_one_endpoint_of_two_names_has_its_places_once() -> None:
    twice = [Door(name=name, endpoint_id="ep", durations=SLOW, limit=2, jobs=1, ages=[0.0]) for name in ("a", "b")]
    assert Outlook.of(twice).behind(1) == {"p50": 200, "p90": 200}


def test_who_wants_an_endpoint_is_told_by_its_own_history_and_speed() -> None:
    outlook = Outlook.of([door("slow", durations=SLOW, in_flight=1), door("quick", durations=QUICK, per_second=1)])
    assert outlook.behind(2, wanted="slow") == {"p50": 300, "p90": 300}
    assert outlook.behind(2, wanted="quick") == {"p50": 12, "p90": 12}


def test_an_endpoint_that_tells_too_little_is_told_of_as_any() -> None:
    outlook = Outlook.of([door("quick", durations=QUICK), door("new", durations=None)])
    assert outlook.behind(0, wanted="new") == {"p50": 10, "p90": 10}
    assert outlook.since(4, endpoint="new") == {"p50": 6, "p90": 6}
    assert outlook.behind(0, wanted="never heard of") == {"p50": 10, "p90": 10}


def test_endpoints_count_by_how_many_each_served_lately() -> None:
    mostly_slow = Outlook.of([door("quick", durations=QUICK, served=1), door("slow", durations=SLOW, served=9)])
    assert mostly_slow.behind(0) == {"p50": 100, "p90": 100}
    mostly_quick = Outlook.of([door("quick", durations=QUICK, served=3), door("slow", durations=SLOW, served=1)])
    assert mostly_quick.behind(0) == {"p50": 10, "p90": 100}
    assert mostly_quick.shares == {"quick": 0.75, "slow": 0.25}
    nobody = Outlook.of([door("quick", durations=QUICK), door("slow", durations=SLOW)])
    assert nobody.shares == {"quick": 0.5, "slow": 0.5}, "none served any lately"


def test_what_is_shut_serves_nobody() -> None:
    slow = door("slow", durations=SLOW, served=9, per_second=1, in_flight=9, shut=True)
    outlook = Outlook.of([slow, door("quick", durations=QUICK)])
    assert outlook.behind(1) == {"p50": 20, "p90": 20}
    assert outlook.behind(0, wanted="slow") is None
    assert Outlook.of([slow], pooled=RUN).behind(0) is None
