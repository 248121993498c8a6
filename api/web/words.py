"""What the page says: states, days, costs and failures in words that a person would use."""

from collections.abc import Mapping
from datetime import date, timedelta

from api.durations import Seconds
from api.estimates import Queue
from api.waiting import AHEAD_LIMIT
from shared.errors import KeyReused, PriceChanged, TwinError
from shared.generations import State, Type

BEGUN = "The text is being written."
"""What a screen reader hears when the first of a text is here."""
STEPS = (State.RESERVED, State.SUBMITTING, State.SUBMITTED, State.RUNNING, State.FINISHING, State.COMPLETED)
TITLES: Mapping[State, str] = {state: state.value.capitalize() for state in State}
ICONS: Mapping[State, str] = {State.COMPLETED: "check", State.FAILED: "warn", State.CANCELLED: "cancelled"}

_SAYINGS: Mapping[State, str] = {
    State.RESERVED: "Your credits are held; waiting for a place.",
    State.SUBMITTING: "Handing it to the model.",
    State.SUBMITTED: "In the model's queue.",
    State.RUNNING: "The model is at work.",
    State.FINISHING: "Bringing the result home.",
}
_THINGS: Mapping[Type, str] = {
    Type.TEXT: "Text",
    Type.IMAGE: "Image",
    Type.MODIFY: "Modified image",
    Type.VIDEO: "Video",
}


def saying(state: State, *, progress: str | None, cancelling: bool, queue: Queue | None = None) -> str:
    """What is happening to an open generation."""
    if cancelling:
        return "Cancelling; what was held comes back."
    if state is State.RESERVED and queue is not None:
        return f"Your credits are held. {place(queue)}"
    eta = queue["eta_seconds"] if queue is not None else None
    said = f"{_SAYINGS[state].removesuffix('.')}, {time_left(eta)}." if eta is not None else _SAYINGS[state]
    return f"{said} {progress}" if progress and state is State.RUNNING else said


def place(queue: Queue) -> str:
    """Where something stands in line, and how long that usually takes."""
    ahead, eta = queue["position"], queue["eta_seconds"]
    if ahead is None:
        follows = "It follows when one of yours has ended"
        return f"{follows}, ready in {time_left(eta)}." if eta is not None else f"{follows}."
    number = "Next in line" if ahead == 0 else f"{ordinal(ahead + 1)} in line"
    if ahead >= AHEAD_LIMIT:
        number = f"{AHEAD_LIMIT} or more are ahead"
    return f"{number}, {time_left(eta)}." if eta is not None else f"{number}."


def time_left(eta: Seconds) -> str:
    """What half of such generations take at most; and what nine tenths do, where people would say another number."""
    half, most = duration(eta["p50"]), duration(eta["p90"])
    return f"about {half}" if half == most else f"about {half}, rarely over {most}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th … 11th, 12th, 13th … 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: int) -> str:
    """How long, as exactly as one can mean it."""
    if seconds < 90:
        return f"{max(seconds, 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{round(seconds / 3600)} h"


def failure(state: State, *, detail: str | None, charged: int) -> str | None:
    """Why nothing came, and what that cost; None when something came."""
    if state is State.CANCELLED:
        return "Cancelled. You were not charged." if charged == 0 else None
    if state is not State.FAILED:
        return None
    return f"{(detail or 'Something went wrong.').rstrip()} You were not charged."


def costs(state: State, *, quoted: int, charged: int, refunded: int) -> list[tuple[str, int]]:
    """Where the credits are: held while it runs, then charged and refunded."""
    if not state.terminal:
        return [("Held", quoted)]
    parts = [("Charged", charged)] if charged or not refunded else []
    return parts + ([("Refunded", refunded)] if refunded else [])


def day_title(day: date, *, today: date) -> str:
    """A date heading, relative where that is what people say."""
    if day == today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return f"{day:%A}, {day.day} {day:%B}" + (f" {day.year}" if day.year != today.year else "")


def alternative(generation_type: Type, prompt: str, *, index: int, of: int) -> str:
    """What stands for a picture where it is not seen."""
    number = f" {index + 1} of {of}" if of > 1 else ""
    shortened = prompt if len(prompt) <= 120 else prompt[:119].rstrip() + "…"
    return f"{_THINGS[generation_type]}{number}: {' '.join(shortened.split())}"


def announcement(generation_type: Type, state: State, *, charged: int) -> str:
    """What a screen reader hears when a generation ends."""
    ending = f"{charged} {'credit' if charged == 1 else 'credits'} charged" if charged else "you were not charged"
    return f"{_THINGS[generation_type]} {state.value}; {ending}."


def refusal(error: TwinError) -> str:
    """Why an order was not taken, in the words of the form rather than of the API."""
    if isinstance(error, PriceChanged) and "cost" in error.facts:
        return f"It is {error.facts['cost']} credits, more than the price you saw. Send again if that is all right."
    if isinstance(error, KeyReused):
        return "This form was sent before and went through: look at the list. Send again to make another."
    return error.detail
