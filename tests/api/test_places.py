"""When a live stream tells of a place and a time: what is news, and how often."""

from uuid import UUID, uuid4

from api.durations import Seconds
from api.estimates import Queue
from api.places import TOLD_AT_ONCE, TOLD_SECONDS, Told, news

ONE = uuid4()


def stands(p50: int | None, p90: int = 100, *, position: int | None = 1) -> Queue:
    eta: Seconds | None = {"p50": p50, "p90": p90} if p50 is not None else None
    return {"position": position, "held_back": False, "eta_seconds": eta}


def is_news(before: Queue, after: Queue, *, seconds: float = TOLD_SECONDS) -> bool:
    return news({ONE: Told(before, 100)}, {ONE: after}, now=100 + seconds) == [ONE]


def test_what_nobody_was_told_is_news() -> None:
    assert news({}, {ONE: stands(None)}, now=0) == [ONE]


def test_another_place_is_news_at_once() -> None:
    assert is_news(stands(40), stands(40, position=0), seconds=0)
    assert is_news(stands(40), {**stands(40), "held_back": True}, seconds=0)


def test_another_time_is_news_when_it_differs_by_more_than_a_tenth_and_a_second() -> None:
    assert not is_news(stands(40), stands(36))
    assert is_news(stands(40), stands(35))
    assert is_news(stands(40), stands(45))
    assert not is_news(stands(4), stands(3)), "a second"
    assert is_news(stands(4), stands(2))
    assert is_news(stands(40, 100), stands(40, 89)), "most of them"
    assert is_news(stands(40), stands(None))
    assert is_news(stands(None), stands(40))
    assert not is_news(stands(None), stands(None))


def test_times_are_told_every_few_seconds_at_most() -> None:
    assert not is_news(stands(40), stands(10), seconds=TOLD_SECONDS - 1)


def test_of_a_crowd_some_are_told_at_a_look_and_the_others_at_the_next_ones() -> None:
    crowd = [UUID(int=number) for number in range(1000)]
    told = {one: Told(stands(40), at=float(number % 7)) for number, one in enumerate(crowd)}
    queues = dict.fromkeys(crowd, stands(20))
    heard: list[UUID] = []
    while fresh := news(told, queues, now=100):
        assert len(fresh) <= TOLD_AT_ONCE
        heard += fresh
        told |= {one: Told(stands(20), 100) for one in fresh}
    assert sorted(heard) == crowd, "each once, and none is forgotten"
    moved = dict.fromkeys(crowd, stands(20, position=0))
    assert news(told, moved, now=100) == crowd, "of other places all are told"
