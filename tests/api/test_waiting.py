"""Who is in whose way, and in which order what is held back ends."""

from uuid import UUID

from api.durations import Durations
from api.outlook import Door, Outlook
from api.waiting import AHEAD_LIMIT, STRIDE, Line, ends

QUICK = Durations([10.0] * 21)
ID = UUID(int=0)


def outlook(*, slow_is_shut: bool = False) -> Outlook:
    quick = Door(name="quick", endpoint_id="1", durations=QUICK, served=3)
    return Outlook.of([quick, Door(name="slow", endpoint_id="2", durations=QUICK, served=1, shut=slow_is_shut)])


def line(**lanes: range) -> Line:
    """Who goes anywhere is `anywhere`."""
    places = {None if name == "anywhere" else name: [(at, ID) for at in where] for name, where in lanes.items()}
    return Line(sorted(place for lane in places.values() for place in lane), places)


def test_who_wants_an_endpoint_waits_for_its_lane_and_its_share_of_the_others() -> None:
    mixed = line(anywhere=range(8), slow=range(100, 102), gone=range(200, 204))
    assert mixed.ahead((300, ID)) == 14
    assert mixed.in_the_way((300, ID), outlook(), wanted="slow") == 2 + 0.25 * (8 + 4)
    assert mixed.in_the_way((300, ID), outlook(), wanted="quick") == 0.75 * (8 + 4)
    assert mixed.in_the_way((101, ID), outlook(), wanted="slow") == 1 + 0.25 * 8
    assert mixed.in_the_way((300, ID), outlook(), wanted=None) == 14
    assert mixed.in_the_way((300, ID), outlook(), wanted="gone") == 14, "it goes anywhere, to be told so"


def test_who_wants_what_is_shut_is_in_nobodys_way() -> None:
    mixed = line(anywhere=range(8), slow=range(100, 102))
    assert mixed.in_the_way((300, ID), outlook(slow_is_shut=True), wanted=None) == 8
    assert mixed.in_the_way((300, ID), outlook(slow_is_shut=True), wanted="quick") == 8, "all of these go there now"


def test_beyond_those_that_are_counted_the_line_is_measured_by_the_hundred() -> None:
    heads = [(at, ID) for at in range(AHEAD_LIMIT)]
    further = [(at, ID) for at in range(STRIDE - 1, 5000, STRIDE)]
    long = Line(heads, {None: heads}, further)
    assert long.ahead((4000, ID)) == AHEAD_LIMIT
    assert long.in_the_way((4000, ID), outlook(), wanted=None) == 4000
    assert long.in_the_way((4000, ID), outlook(), wanted="slow") == 1000
    assert Line(heads, {None: heads}).in_the_way((4000, ID), outlook(), wanted=None) == AHEAD_LIMIT


def test_each_begins_when_one_before_it_has_ended() -> None:
    assert list(ends([5], [10, 10], places=1)) == [15, 25]
    assert list(ends([5, 8], [10, 10, 1], places=2)) == [15, 18, 16]
    assert list(ends([5], [10, 10], places=2)) == [10, 15], "a place is free"
    assert list(ends([5, 8, 30], [10], places=1)) == [40], "the plan had more room before"
