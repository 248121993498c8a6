"""Days, costs and offers in words."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from api.web import assets, words
from api.web.cards import days
from api.web.rendering import Renderer
from shared.generations import State, Type

TODAY = date(2026, 3, 2)
TOKYO = ZoneInfo("Asia/Tokyo")


def reply(created_at: datetime) -> Any:
    """A finished generation as the API tells it."""
    return {
        "id": uuid4(),
        "type": Type.TEXT,
        "status": State.COMPLETED,
        "prompt": "x",
        "batch_size": 1,
        "created_at": created_at,
        "cancel_requested_at": None,
        "retryable": False,
        "progress": None,
        "cost": {"quoted": 1, "held": 0, "charged": 1, "refunded": 0},
        "outputs": [],
        "error": None,
    }


def test_days_are_the_persons_own() -> None:
    late = datetime(2026, 3, 1, 16, 0, tzinfo=UTC)  # 01:00 on the second in Tokyo
    grouped = days(
        [reply(late), reply(late - timedelta(hours=2)), reply(late - timedelta(days=400))],
        TOKYO,
        today=TODAY,
        shown_day=None,
        with_today=True,
    )
    assert [(day.title, len(day.cards)) for day in grouped] == [
        ("Today", 1),
        ("Yesterday", 1),
        ("Sunday, 26 January 2025", 1),
    ]
    assert grouped[0].cards[0].time == "01:00"


def test_a_page_that_goes_on_does_not_repeat_the_heading() -> None:
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    grouped = days([reply(noon)], ZoneInfo("UTC"), today=TODAY, shown_day="2026-03-01", with_today=False)
    assert [(day.continued, day.cards[0].take_focus) for day in grouped] == [(True, True)]


def test_an_empty_page_keeps_a_place_for_today() -> None:
    (today,) = days([], ZoneInfo("UTC"), today=TODAY, shown_day=None, with_today=True)
    assert (today.key, list(today.cards)) == ("2026-03-02", [])


@pytest.mark.parametrize(
    ("state", "charged", "refunded", "said"),
    [
        (State.RUNNING, 0, 0, [("Held", 10)]),
        (State.COMPLETED, 10, 0, [("Charged", 10)]),
        (State.COMPLETED, 5, 5, [("Charged", 5), ("Refunded", 5)]),
        (State.FAILED, 0, 10, [("Refunded", 10)]),
    ],
)
def test_the_cost_says_where_the_credits_are(
    state: State, charged: int, refunded: int, said: list[tuple[str, int]]
) -> None:
    assert words.costs(state, quoted=10, charged=charged, refunded=refunded) == said


def test_a_cancelled_one_that_cost_something_does_not_claim_otherwise() -> None:
    assert words.failure(State.CANCELLED, detail=None, charged=3) is None
    assert words.failure(State.CANCELLED, detail=None, charged=0) == "Cancelled. You were not charged."


def test_a_closed_order_offers_more_credits_where_there_are_any() -> None:
    quote = {
        "type": "video",
        "batch_size": 8,
        "cost": 80,
        "lines": [{"label": "8 x video at 10", "amount": 80}],
        "balance": {"available": 10},
        "remaining": -70,
        "verdict": "block",
        "reasons": [{"detail": "This is 70 credits more than you have."}],
        "upgrade_url": "https://example.com/plans",
    }
    html = Renderer(assets.load()).text("cost.html", quote=quote)
    assert 'href="https://example.com/plans"' in html
    assert "Get more credits" in html
    assert "disabled" in html
    assert "Get more credits" not in Renderer(assets.load()).text("cost.html", quote={**quote, "upgrade_url": None})


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_ordinals(number: int, said: str) -> None:
    assert words.ordinal(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "1 s"), (20, "20 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (7200, "2 h")]
)
def test_durations(seconds: int, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("position", "eta", "said"),
    [
        (0, None, "Next in line."),
        (2, {"p50": 20, "p90": 40}, "3rd in line, about 20 s, rarely over 40 s."),
        (2, {"p50": 600, "p90": 620}, "3rd in line, about 10 min."),
        (1000, None, "1000 or more are ahead."),
        (1000, {"p50": 7200, "p90": 18000}, "1000 or more are ahead, about 2 h, rarely over 5 h."),
        (None, None, "It follows when one of yours has ended."),
        (
            None,
            {"p50": 20, "p90": 40},
            "It follows when one of yours has ended, ready in about 20 s, rarely over 40 s.",
        ),
    ],
)
def test_places_in_line(position: int | None, eta: Any, said: str) -> None:
    assert words.place({"position": position, "held_back": position is None, "eta_seconds": eta}) == said


@pytest.mark.parametrize(
    ("state", "progress", "eta", "said"),
    [
        (State.SUBMITTED, None, None, "In the model's queue."),
        (State.SUBMITTED, None, {"p50": 20, "p90": 40}, "In the model's queue, about 20 s, rarely over 40 s."),
        (State.RUNNING, "3 of 8", {"p50": 5, "p90": 5}, "The model is at work, about 5 s. 3 of 8"),
        (State.RUNNING, "3 of 8", None, "The model is at work. 3 of 8"),
    ],
)
def test_what_was_sent_says_how_long_it_takes_still(state: State, progress: str | None, eta: Any, said: str) -> None:
    queue: Any = {"position": None, "held_back": False, "eta_seconds": eta}
    assert words.saying(state, progress=progress, cancelling=False, queue=queue) == said
