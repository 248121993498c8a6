"""A generation as a card, and cards grouped by day: what the templates show, made from the API's own reply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

from markupsafe import Markup

from api.replies import GenerationReply, OutputReply
from api.web import words
from shared.generations import State, Type


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way; `phase` is done, current or ahead."""

    title: str
    phase: str


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture or clip as the page shows it: `shown` is its thumbnail, or itself when there is none.

    `source` names it for a modification; empty if it cannot be one. What is `elsewhere` is linked to, never shown.
    """

    url: str
    shown: str
    alt: str
    size: Markup
    is_video: bool
    source: str
    elsewhere: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One generation, ready for the template.

    `again`: what trying it again costs; None when that cannot be. `trouble`: why what was just asked for was not done.
    """

    id: UUID
    type: Type
    state: State
    prompt: str
    batch_size: int
    created_at: datetime
    day: date
    time: str
    texts: Sequence[Any]
    text_so_far: str
    media: Sequence[Medium]
    error: str | None
    cost: Sequence[dict[str, Any]]
    charged: int
    saying: str
    cancellable: bool
    again: int | None
    trouble: str | None
    deletable: bool
    take_focus: bool

    @property
    def open(self) -> bool:
        """Still on its way."""
        return not self.state.terminal

    @property
    def framed(self) -> bool:
        """Whether it is pictures or clips that come."""
        return self.type is not Type.TEXT and self.state not in (State.FAILED, State.CANCELLED)

    @property
    def state_title(self) -> str:
        """The state as a word."""
        return words.TITLES[self.state]

    @property
    def state_icon(self) -> str:
        """The icon of a final state."""
        return words.ICONS[self.state]

    @property
    def steps(self) -> list[Step]:
        """The way of an open generation, up to where it is."""
        here = words.STEPS.index(self.state)
        phases = ["done"] * here + ["current"] + ["ahead"] * (len(words.STEPS) - here - 1)
        return [Step(words.TITLES[state], phase) for state, phase in zip(words.STEPS, phases, strict=True)]


@dataclass(frozen=True, slots=True)
class Day:
    """The cards of one day in the person's time zone; `continued` when its heading is on the page already."""

    key: str
    title: str
    cards: Sequence[Card]
    continued: bool


def card(reply: GenerationReply, zone: ZoneInfo, *, take_focus: bool = False, trouble: str | None = None) -> Card:
    """The card of a generation."""
    state, cost, local = reply["status"], reply["cost"], reply["created_at"].astimezone(zone)
    cancelling = reply["cancel_requested_at"] is not None
    detail = reply["error"]["detail"] if reply["error"] else None
    parts = words.costs(state, quoted=cost["quoted"], charged=cost["charged"], refunded=cost["refunded"])
    return Card(
        id=reply["id"],
        type=reply["type"],
        state=state,
        prompt=reply["prompt"],
        batch_size=reply["batch_size"],
        created_at=reply["created_at"],
        day=local.date(),
        time=f"{local:%H:%M}",
        texts=[output for output in reply["outputs"] if output["kind"] == "text"],
        text_so_far=reply.get("text_so_far") or "",
        media=media(reply),
        error=words.failure(state, detail=detail, charged=cost["charged"]),
        cost=[{"verb": verb, "amount": amount} for verb, amount in parts],
        charged=cost["charged"],
        saying=""
        if state.terminal
        else words.saying(state, progress=reply["progress"], cancelling=cancelling, queue=reply["queue"]),
        cancellable=not (state.terminal or state is State.FINISHING or cancelling),
        again=cost["quoted"] if reply["retryable"] else None,
        trouble=trouble,
        deletable=state.terminal,
        take_focus=take_focus,
    )


def media(reply: GenerationReply) -> list[Medium]:
    """The pictures and clips of a generation; addresses without the origin, so that any name of this server works."""
    outputs = [output for output in reply["outputs"] if "url" in output]
    source = reply["type"] in (Type.IMAGE, Type.MODIFY) and reply["status"] is State.COMPLETED
    return [_medium(reply, output, of=len(outputs), source=source) for output in outputs]


def _medium(reply: GenerationReply, output: OutputReply, *, of: int, source: bool) -> Medium:
    kept = output.get("kept", True)
    small = output.get("thumbnail")
    url = urlsplit(output["url"]).path if kept else output["url"]
    size = (small["width"], small["height"]) if small else (output.get("width"), output.get("height"))
    return Medium(
        url=url,
        shown=urlsplit(small["url"]).path if small else url,
        alt=words.alternative(reply["type"], reply["prompt"], index=output["index"], of=of),
        size=_size(*size),
        is_video=output.get("media_type", "").startswith("video/"),  # a moving WebP is a picture to a browser
        source=f"{reply['id']}:{output['index']}" if source and kept else "",
        elsewhere=not kept,
    )


def _size(width: int | None, height: int | None) -> Markup:
    return Markup(' width="{}" height="{}"').format(width, height) if width and height else Markup("")


def days(
    replies: Iterable[GenerationReply], zone: ZoneInfo, *, today: date, shown_day: str | None, with_today: bool
) -> list[Day]:
    """Cards by day, newest first.

    `shown_day` is the last day of the page that this continues, whose heading is there already. `with_today` keeps a
    place for today even when nothing was made yet, so that a new card has somewhere to go.
    """
    grouped: dict[date, list[Card]] = {today: []} if with_today else {}
    for place, reply in enumerate(replies):
        made = card(reply, zone, take_focus=shown_day is not None and place == 0)
        grouped.setdefault(made.day, []).append(made)
    return [
        Day(day.isoformat(), words.day_title(day, today=today), cards, continued=day.isoformat() == shown_day)
        for day, cards in grouped.items()
    ]
