"""How many polls may begin where: whoever comes first, every endpoint keeps a few slots."""

from hypothesis import given
from hypothesis import strategies as st

from worker.slots import free_slots

ENDPOINTS = ("a", "b", "c", "d")
COUNTS = st.dictionaries(st.sampled_from(ENDPOINTS), st.integers(0, 300))
SLOTS = 200
OWN = SLOTS // (2 * len(ENDPOINTS))


def test_one_that_wants_all_of_it_leaves_the_others_theirs() -> None:
    assert free_slots(200, {"a": 500}, under_way={}, slots=SLOTS, endpoints=ENDPOINTS) == {"a": 200 - 3 * OWN}
    full = {"a": 200 - 3 * OWN}
    assert free_slots(50, {"a": 500}, under_way=full, slots=SLOTS, endpoints=ENDPOINTS) == {}
    assert free_slots(50, {"a": 500, "b": 500}, under_way=full, slots=SLOTS, endpoints=ENDPOINTS) == {"b": OWN}


def test_the_only_endpoint_has_all_of_them() -> None:
    assert free_slots(50, {"a": 500}, under_way={"a": 150}, slots=SLOTS, endpoints=["a"]) == {"a": 50}


def test_one_that_left_the_configuration_is_asked_too() -> None:
    assert free_slots(50, {"gone": 3}, under_way={}, slots=SLOTS, endpoints=ENDPOINTS) == {"gone": 3}


@given(st.integers(0, SLOTS), COUNTS, COUNTS)
def test_whoever_is_silent_the_last_slots_of_others_stay_free(
    limit: int, wanted: dict[str, int], silent: dict[str, int]
) -> None:
    """However often the silent ones come back for more, who has none under way gets its own at once."""
    under_way: dict[str, int] = {}
    for _ in range(20):
        for each, count in free_slots(limit, silent, under_way=under_way, slots=SLOTS, endpoints=ENDPOINTS).items():
            under_way[each] = under_way.get(each, 0) + count
    assert sum(under_way.values()) <= SLOTS
    granted = free_slots(SLOTS, wanted, under_way=under_way, slots=SLOTS, endpoints=ENDPOINTS)
    assert sum(granted.values()) + sum(under_way.values()) <= SLOTS
    for each in ENDPOINTS:
        if not under_way.get(each):
            assert granted.get(each, 0) >= min(wanted.get(each, 0), OWN)
