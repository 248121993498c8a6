"""A generation as clients see it (http.md, Resources). The types here are the OpenAPI schema too."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NotRequired, cast
from uuid import UUID

import asyncpg
import orjson
from fastapi import Response
from typing_extensions import TypedDict

from api.estimates import Queue
from shared.credits import Balance, Decision
from shared.generations import Generation, State, Type
from shared.pricing import Cost
from shared.storage import Storage

WARNINGS: Mapping[str, str] = {
    "low-balance": "Little is left after this: {remaining}.",
    "overdraft": "This is more than your credits; the rest is lent to you and paid back from the next credits.",
    "insufficient-credits": "This is {shortfall} more than you have.",
    "overdraft-limit": "This is {shortfall} beyond what can be lent to you.",
}
"""A decision's reasons in words."""


class CostLine(TypedDict):
    """One line of the arithmetic; the amounts add up to the quoted cost."""

    label: str
    amount: int


class CostReply(TypedDict):
    """What it costs: quoted at submit, held until it ends, then charged for what came and refunded for the rest."""

    quoted: int
    held: int
    charged: int
    refunded: int
    currency: str
    lines: list[CostLine]


class BalanceReply(TypedDict):
    """What the person can spend after this."""

    available: int
    held: int
    overdraft_used: int


class Warned(TypedDict):
    """Something the person should know; the request went through all the same."""

    code: str
    detail: str


class ThumbnailReply(TypedDict):
    """A small picture of a result, for lists; its address works as long as the result's."""

    url: str
    width: int
    height: int


class OutputReply(TypedDict):
    """One result. Media have an address that works for about a day; a text is here.

    `kept` is false of a medium that could not be copied to us: its address is the model's own, works for as long as the
    model's store lets it, and nobody here has looked at it. `media_type`, sizes and thumbnail are not known then.
    `partial` is true of a text that broke off.
    """

    index: int
    kind: str
    media_type: NotRequired[str]
    url: NotRequired[str]
    kept: NotRequired[bool]
    text: NotRequired[str]
    width: NotRequired[int | None]
    height: NotRequired[int | None]
    bytes: NotRequired[int]
    thumbnail: NotRequired[ThumbnailReply]
    partial: NotRequired[bool]


class ErrorReply(TypedDict):
    """Why a generation failed."""

    code: str
    detail: str | None


class Urls(TypedDict):
    """Where to go from here."""

    self: str
    cancel: str
    retry: str
    events: str


TransitionReply = TypedDict(
    "TransitionReply",
    {"version": int, "from": State | None, "to": State, "at": datetime, "actor": str, "reason": str},
)
"""One change of state."""


class GenerationReply(TypedDict):
    """A generation. `balance` not in lists.

    Only when it is asked for by itself: `transitions`; `text_so_far`; and `last_event_id`, after which its events go on
    from what this says.
    """

    id: UUID
    type: Type
    status: State
    prompt: str
    batch_size: int
    parameters: dict[str, Any]
    source: dict[str, Any] | None
    client_reference: str | None
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    retries: int
    retryable: bool
    progress: str | None
    cost: CostReply
    balance: NotRequired[BalanceReply]
    warnings: list[Warned]
    outputs: list[OutputReply]
    error: ErrorReply | None
    endpoint: str | None
    queue: Queue | None
    urls: Urls
    transitions: NotRequired[list[TransitionReply]]
    text_so_far: NotRequired[str | None]
    last_event_id: NotRequired[str]


def address(public_url: str, generation_id: UUID) -> str:
    """Where a generation is found."""
    return f"{public_url}/v1/generations/{generation_id}"


def generation_reply(
    generation: Generation, *, cost: Cost, storage: Storage, public_url: str, queue: Queue | None = None
) -> GenerationReply:
    """What every reply about a generation has; `queue` when it is open."""
    own = address(public_url, generation.id)
    return {
        "id": generation.id,
        "type": generation.type,
        "status": generation.state,
        "prompt": generation.prompt,
        "batch_size": generation.batch_size,
        "parameters": dict(generation.parameters),
        "source": dict(generation.source) if generation.source is not None else None,
        "client_reference": generation.client_reference,
        "created_at": generation.created_at,
        "submitted_at": generation.submitted_at,
        "started_at": generation.started_at,
        "finished_at": generation.finished_at,
        "cancel_requested_at": generation.cancel_requested_at,
        "retries": generation.retries,
        "retryable": generation.may_be_retried(datetime.now(UTC)),
        "progress": generation.progress,
        "cost": cost_reply(generation, cost),
        "warnings": [],
        "outputs": [_output(output, storage) for output in generation.outputs],
        "error": _error(generation),
        "endpoint": generation.endpoint,
        "queue": queue,
        "urls": {"self": own, "cancel": f"{own}/cancel", "retry": f"{own}/retry", "events": f"{own}/events"},
    }


def cost_reply(generation: Generation, cost: Cost) -> CostReply:
    """Where the credits of a generation are."""
    settled = generation.charged is not None
    charged = generation.charged or 0
    return {
        "quoted": generation.quoted,
        "held": 0 if settled else generation.quoted,
        "charged": charged,
        "refunded": generation.quoted - charged if settled else 0,
        "currency": "credits",
        "lines": [CostLine(label=line["label"], amount=line["amount"]) for line in cost.lines()],
    }


def balance_reply(balance: Balance) -> BalanceReply:
    """The part of a balance that rides along with a generation."""
    return {"available": balance.available, "held": balance.held, "overdraft_used": balance.overdraft_used}


def warnings(decision: Decision) -> list[Warned]:
    """What a decision's reasons mean, in words."""
    numbers = {"remaining": in_words(max(decision.remaining, 0)), "shortfall": in_words(decision.shortfall)}
    return [{"code": reason, "detail": WARNINGS[reason].format(**numbers)} for reason in decision.reasons]


def in_words(amount: int) -> str:
    """An amount of credits as people say it."""
    return "1 credit" if amount == 1 else f"{amount} credits"


def transition_reply(row: asyncpg.Record) -> TransitionReply:
    """One row of `generation_transitions`."""
    return {
        "version": row["version"],
        "from": State(row["from_state"]) if row["from_state"] else None,
        "to": State(row["to_state"]),
        "at": row["at"],
        "actor": row["actor"],
        "reason": row["reason"],
    }


def dump(value: Any) -> bytes:
    """JSON as we send it: times in UTC with a Z."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z)


def _plain(value: object) -> str:
    if isinstance(value, UUID):  # asyncpg's is a subclass, which orjson leaves to us
        return str(value)
    raise TypeError


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply."""
    return Response(dump(value), status, headers=dict(headers or {}), media_type="application/json")


def _output(output: Mapping[str, Any], storage: Storage) -> OutputReply:
    shown: dict[str, Any] = {name: value for name, value in output.items() if name != "key"}
    if "key" in output:
        shown |= {"url": storage.sign(output), "kept": True}
    if "thumbnail" in output:  # not of videos, nor of what was made before there were any
        small = output["thumbnail"]
        shown["thumbnail"] = {"url": storage.sign(small), "width": small["width"], "height": small["height"]}
    return cast("OutputReply", shown)


def _error(generation: Generation) -> ErrorReply | None:
    if generation.error_code is None:
        return None
    return {"code": generation.error_code, "detail": generation.error_detail}
