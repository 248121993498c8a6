"""Orders for trouble in words: `image slow=5 x3 webhooks=lost 50%`, read and said again in the same words.

An endpoint's name (or `all`) says where, for what follows. Each trouble begins an order; what refines it comes after.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from tests.local.runpod.public_api import OPERATIONS
from tests.local.runpod.weather import Order, Trouble

EVERYWHERE: Final = "all"
MOST_WORDS: Final = 200

HELP: Final = """\
Where     an endpoint's name or `all`: holds for what follows
Trouble   slow=5          calls are answered 5 s late
          cold=45         new jobs wait 45 s for a worker
          limited[=7]     429, with Retry-After: 7
          paused          409 on run, runsync and retry
          error[=502]     a 5xx; nothing is done
          timeout=before  no answer, nothing done        timeout=after  no answer, but it was done
          dropped=before  the line is cut, nothing done  dropped=after  the line is cut, but it was done
          webhooks=lost, doubled, reordered or late (late=60 is 60 s)
          forgotten       404 on jobs that exist         oversized      results are thrown away
          no-capacity     no worker takes a job          crash[=2]      workers die 2 s into a job
Refined   x3 three times, for=60 for a minute, 30% by chance, on=run for one operation only
Over      clear           fine weather again, also before other words"""


class WrongWord(ValueError):
    """A word that makes no sense where it stands; the message says which and what would."""


@dataclass(frozen=True)
class _Word:
    """How one trouble is said: alone, with a number that goes into `number`, or with one of `kinds`."""

    number: str = ""
    trouble: Trouble | None = None
    kinds: dict[str, Trouble] | None = None


_WORDS: Final = {
    "slow": _Word("seconds", Trouble.LATENCY),
    "cold": _Word("seconds", Trouble.COLD_START),
    "limited": _Word("seconds", Trouble.RATE_LIMITED),
    "paused": _Word("", Trouble.PAUSED),
    "error": _Word("status", Trouble.SERVER_ERROR),
    "timeout": _Word(kinds={"before": Trouble.TIMEOUT_BEFORE, "after": Trouble.TIMEOUT_AFTER}),
    "dropped": _Word(kinds={"before": Trouble.DROPPED_BEFORE, "after": Trouble.DROPPED_AFTER}),
    "webhooks": _Word(
        kinds={
            "lost": Trouble.WEBHOOK_LOST,
            "doubled": Trouble.WEBHOOK_DOUBLED,
            "reordered": Trouble.WEBHOOK_REORDERED,
            "late": Trouble.WEBHOOK_DELAYED,
        }
    ),
    "late": _Word("seconds", Trouble.WEBHOOK_DELAYED),
    "forgotten": _Word("", Trouble.FORGOTTEN),
    "oversized": _Word("", Trouble.OVERSIZED_RESULT),
    "no-capacity": _Word("", Trouble.THROTTLED),
    "crash": _Word("seconds", Trouble.WORKER_CRASH),
}
_REFINED: Final[list[tuple[re.Pattern[str], str, Callable[[str], Any]]]] = [
    (re.compile(r"x(\d+)"), "count", int),
    (re.compile(r"for=(\d+(?:\.\d+)?)"), "lasting_seconds", float),
    (re.compile(r"(\d+(?:\.\d+)?)%"), "probability", lambda text: float(text) / 100),
    (re.compile(r"on=([a-z-]+)"), "operation", str),
]


def read(words: Iterable[str], endpoints: Iterable[str]) -> list[Order]:
    """Read orders for these endpoints. Raises WrongWord."""
    known = [EVERYWHERE, *endpoints]
    where: str | None = None
    drafts: list[dict[str, Any]] = []
    said: list[str] = []
    for position, word in enumerate(words):
        if position >= MOST_WORDS:
            raise WrongWord(f"more than {MOST_WORDS} words")
        if word in known:
            where = None if word == EVERYWHERE else word
        elif (more := _refinement(word)) is not None:
            if not drafts:
                raise WrongWord(f"{word!r} refines nothing: say the trouble first, as in `slow=5 {word}`")
            drafts[-1] |= more
            said[-1] += f" {word}"
        else:
            drafts.append(_trouble(word, known) | {"endpoint": where})
            said.append(word)
    if where is not None and not drafts:
        raise WrongWord(f"what is to happen to {where}?\n{HELP}")
    return [_order(draft, as_said) for draft, as_said in zip(drafts, said, strict=True)]


def _refinement(word: str) -> dict[str, Any] | None:
    for pattern, name, meaning in _REFINED:
        if found := pattern.fullmatch(word):
            value = meaning(found[1])
            if name == "operation" and value not in OPERATIONS:
                raise WrongWord(f"there is no operation {value!r}: {', '.join(sorted(OPERATIONS))}")
            return {name: value}
    return None


def _trouble(word: str, known: list[str]) -> dict[str, Any]:
    name, given, value = word.partition("=")
    meant = _WORDS.get(name)
    if meant is None:
        raise WrongWord(f"{word!r} is neither an endpoint ({', '.join(known)}) nor a trouble:\n{HELP}")
    if meant.kinds is not None:
        if value not in meant.kinds:
            raise WrongWord(f"{name} is one of {', '.join(f'{name}={kind}' for kind in meant.kinds)}")
        return {"trouble": meant.kinds[value]}
    if not given:
        return {"trouble": meant.trouble}
    if not meant.number or not re.fullmatch(r"\d+(\.\d+)?", value):
        raise WrongWord(f"{word!r}: {name} takes {'a number' if meant.number else 'no value'}")
    return {"trouble": meant.trouble, meant.number: float(value) if meant.number == "seconds" else value}


def _order(draft: dict[str, Any], said: str) -> Order:
    try:
        return Order.model_validate(draft)
    except ValidationError as error:
        (first, *_) = error.errors()
        raise WrongWord(f"{said!r}: {first['msg'].lower()}") from None


def say(standing: dict[str, Any]) -> str:
    """Say one standing order, as the weather door shows it, in the words it can be given with."""
    order = Order.model_validate({name: value for name, value in standing.items() if name in Order.model_fields})
    words = [order.endpoint or EVERYWHERE, _said(order)]
    if order.operation is not None:
        words.append(f"on={order.operation}")
    if order.probability < 1:
        words.append(f"{100 * order.probability:g}%")
    if standing.get("left") is not None:
        words.append(f"x{standing['left']}")
    if standing.get("ends_in") is not None:
        words.append(f"for={standing['ends_in']:.0f}")
    return " ".join(words)


def _said(order: Order) -> str:
    if order.trouble is Trouble.WEBHOOK_DELAYED:
        return f"late={order.seconds:g}"
    for name, word in _WORDS.items():
        if word.trouble is order.trouble:
            number = getattr(order, word.number) if word.number else 0
            return f"{name}={number:g}" if number else name
        for kind, trouble in (word.kinds or {}).items():
            if trouble is order.trouble:
                return f"{name}={kind}"
    return str(order.trouble)
