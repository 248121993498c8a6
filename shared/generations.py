"""A generation and its life. The doors' statements are here; the worker's transitions in `worker/transitions.py`, and `pursuit.py`.

| state | means | moved on by | deadline, and what happens if the process dies here |
|---|---|---|---|
| reserved | row, hold and first transition committed; not yet sent: in the line of its type, or held back behind the person's own | `worker/submit`, in the order of `vstart`; let in by `worker/settle` | never offered or Redis lost: the submit loop claims it unasked; not sent within `RESERVED_DEADLINE` → failed; held back for `HELD_BACK_DEADLINE` → failed |
| submitting | a worker is about to call, or is calling, RunPod | `worker/submit` | lease over: cannot tell whether RunPod has it, so `worker/sweep` waits a grace for the webhook (its token names generation and attempt) to have it adopted, then one more attempt; charged once whatever happens; a late orphan is cancelled and recorded |
| submitted | RunPod's id is recorded; `due_at` is the next poll | `worker/poll`, hurried by the webhook | polled again when due; queue deadline → cancelled there → failed; recalled for somebody else before it began → cancelled there → reserved: who finds it cancelled writes it down |
| running | RunPod says IN_PROGRESS (progress kept) | `worker/poll` | run deadline → cancelled there → failed; a 404 inside the grace is waited out, after it the result is lost → failed |
| finishing | a terminal answer is stored raw; outputs are being copied, or the last chunks of a text without output are waited for | `worker/finish` | finished again when the lease is over: copying and settling are idempotent; nothing comes of it, or finish deadline → submitted again if another attempt may have a result, else failed |
| completed | settled: charged for what was delivered, the rest refunded | nobody | terminal ⇔ settled, by CHECK |
| failed, cancelled | settled: all refunded | a person or ops who try it again (`api/retries`): reserved once more, under a new hold | terminal ⇔ settled, by CHECK |

`worker/stream` follows texts beside this, from submitted to their end, under a lease of its own (`worker/streams.py`); it
moves none of them, it only makes them due.

"Queued" is not a state: the queue is a doorbell. A claim takes a lease (`lease_token`, and `due_at` pushed ahead);
every later write compares state, version and that token, so a paused process writes nothing. No row back means that
somebody else did it, which is not an error.

A *round* is what one hold pays for, reserved to settled; trying again begins the next one. Attempts are numbered on
through all rounds: a zombie or a late webhook of an earlier round names an attempt that is not pursued any more. Only a
word of COMPLETED turns a round that is open back to it; after the end it is on record and nothing more. What was pursued
goes on until the other one's result is here. When nothing comes of the pursued attempt, another that may have a result is
pursued: running or finishing → submitted (`worker/attempts.py`). An attempt that is recalled (`worker/recall.py`) is none
that may have a result, unless RunPod says that it completed all the same.
"""  # noqa: E501 - the table's rows are lines

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

import asyncpg

from shared import sql
from shared.database import Connection

_SQL = sql.load(__file__)

RESERVED_DEADLINE = timedelta(minutes=20)
"""How long a generation may wait to be sent before it is failed and refunded."""
HELD_BACK_DEADLINE = timedelta(days=1)
"""How long it may be held back before that, behind the person's own; the other time begins when it is let in."""
HOLD_LIFETIME = timedelta(days=3)
"""Longer than any round can last; `worker/settings.py` refuses deadlines that add up to more."""
CREDIT_IN_LINE = 1_000_000
"""How long a credit is in virtual time at weight 1: so fine that division by a weight of 1000 loses nothing to see."""
LONGEST_IN_LINE_CREDITS = 10**9
"""A dearer generation counts as this one, so that no line runs out of numbers."""
RETRY_WINDOW = timedelta(days=7)
"""For how long after it was made a generation can be tried again."""
LONGEST_LIFE = RETRY_WINDOW + HOLD_LIFETIME
"""Nothing changes any more about a generation that was made so long ago."""
MAXIMUM_RETRIES = 5
"""How often one generation can be tried again; with the attempts of a round, this bounds what is sent to RunPod."""
RESULT_KEPT = timedelta(minutes=25)
"""RunPod keeps a result for 30 minutes (runpod.md 1.3): for so long a completed attempt is worth turning back to."""


class State(StrEnum):
    """Where a generation is; the table above says what each means."""

    RESERVED = "reserved"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    RUNNING = "running"
    FINISHING = "finishing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Settled for good."""
        return self in _TERMINAL


_TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Type(StrEnum):
    """What a person can ask for."""

    TEXT = "text"
    IMAGE = "image"
    MODIFY = "modify"
    VIDEO = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One row of `generations`, as the last statement left it. Times are UTC, `_ms` are milliseconds."""

    id: UUID
    user_id: str
    type: Type
    prompt: str
    batch_size: int
    parameters: Mapping[str, Any]
    source: Mapping[str, Any] | None
    client_reference: str | None
    state: State
    version: int
    due_at: datetime | None
    deadline_at: datetime | None
    lease_token: UUID | None
    cancel_requested_at: datetime | None
    hold_id: UUID
    price_version: int
    quoted: int
    charged: int | None
    estimated_seconds: int | None
    wanted_endpoint: str | None
    vstart: int
    held_back: bool
    retries: int
    retried_at: datetime | None
    earlier_attempts: int
    attempt: int
    heard_attempt: int | None
    recall_asked_at: datetime | None
    recalled_attempt: int | None
    endpoint: str | None
    endpoint_id: str | None
    remote_id: str | None
    progress: str | None
    outputs: Sequence[Mapping[str, Any]]
    error_code: str | None
    error_detail: str | None
    delay_ms: int | None
    execution_ms: int | None
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def waits_since(self) -> datetime:
        """When the round that is on began."""
        return self.retried_at or self.created_at

    def may_be_retried(self, now: datetime) -> bool:
        """Whether it ended without a result, not too long after it was made, and not too often."""
        ended = self.state in (State.FAILED, State.CANCELLED)
        return ended and self.retries < MAXIMUM_RETRIES and now < self.created_at + RETRY_WINDOW

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Self:
        """Read a row that has at least the columns of `generations`."""
        values = {name: row[name] for name in _FIELD_NAMES}
        return cls(**{**values, "type": Type(values["type"]), "state": State(values["state"])})


_FIELD_NAMES = tuple(field.name for field in fields(Generation))


async def read_one(connection: Connection, statement: str, *arguments: Any) -> Generation | None:
    """The generation that a statement returns, if it returns one."""
    row = await connection.fetchrow(statement, *arguments)
    return Generation.from_row(row) if row else None


async def read_all(connection: Connection, statement: str, *arguments: Any) -> list[Generation]:
    """The generations that a statement returns."""
    return [Generation.from_row(row) for row in await connection.fetch(statement, *arguments)]


async def insert(
    connection: Connection,
    *,
    generation_id: UUID,
    user_id: str,
    generation_type: Type,
    prompt: str,
    batch_size: int,
    parameters: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    client_reference: str | None,
    request_id: str | None,
    hold_id: UUID,
    price_version: int,
    quoted: int,
    wanted_endpoint: str | None = None,
    now: datetime | None = None,
) -> Generation:
    """Write a `reserved` generation and its first transition; its hold is already made in this transaction.

    `wanted_endpoint`: it is sent there and nowhere else. It joins the line of its type, or is held back when the person
    has as many on their way as their plan allows.

    Raises:
        asyncpg.UniqueViolationError: the person used this `client_reference` before.
    """
    row = await connection.fetchrow(
        _SQL["insert"],
        generation_id,
        user_id,
        generation_type,
        prompt,
        batch_size,
        parameters,
        source,
        client_reference,
        request_id,
        hold_id,
        price_version,
        quoted,
        RESERVED_DEADLINE,
        now,
        wanted_endpoint,
        CREDIT_IN_LINE,
        LONGEST_IN_LINE_CREDITS,
        HELD_BACK_DEADLINE,
    )
    if row is None:
        msg = "an INSERT … RETURNING gave no row"
        raise RuntimeError(msg)
    return Generation.from_row(row)


async def keep_estimate(connection: Connection, generation: Generation, *, seconds: int | None) -> None:
    """Write down within how many seconds half of such generations are ready, as is told to whom this round is for."""
    if seconds != generation.estimated_seconds:
        await connection.execute(_SQL["keep_estimate"], generation.id, seconds)


async def get(connection: Connection, generation_id: UUID, *, user_id: str | None = None) -> Generation | None:
    """A generation; with `user_id`, only that person's, and not one that they deleted."""
    return await read_one(connection, _SQL["get"], generation_id, user_id)


async def lock(connection: Connection, generation_id: UUID, *, user_id: str | None = None) -> Generation | None:
    """A generation that was not deleted, locked until the transaction ends; with `user_id`, only that person's."""
    return await read_one(connection, _SQL["lock"], generation_id, user_id)


async def retry(
    connection: Connection,
    generation: Generation,
    *,
    hold_id: UUID,
    price_version: int,
    quoted: int,
    retried_by: str,
    actor: str,
    now: datetime | None = None,
) -> Generation | None:
    """failed or cancelled → reserved, the next round; its hold is already made in this transaction.

    `retried_by` is kept for ops; `actor` stands in the transition, which the person sees.
    """
    return await read_one(
        connection,
        _SQL["retry"],
        generation.id,
        generation.version,
        hold_id,
        price_version,
        quoted,
        RESERVED_DEADLINE,
        RESULT_KEPT,
        retried_by,
        now,
        actor,
        CREDIT_IN_LINE,
        LONGEST_IN_LINE_CREDITS,
        HELD_BACK_DEADLINE,
    )


async def request_cancel(
    connection: Connection, generation_id: UUID, *, user_id: str, now: datetime | None = None
) -> Generation | None:
    """Set the cancel flag of a person's open generation and make it due; None when there is nothing to cancel.

    A generation that is already finishing is too late to cancel: its result is here.
    """
    return await read_one(connection, _SQL["request_cancel"], generation_id, user_id, now)


async def hurry(
    connection: Connection, generation_id: UUID, *, attempt: int, completed: bool, now: datetime | None = None
) -> Generation | None:
    """A webhook came for this attempt: make the row due now. None when the generation is past caring.

    An attempt that is not pursued any more is heard only when it `completed` and its answer was never read.
    """
    return await read_one(connection, _SQL["hurry"], generation_id, attempt, now, completed)
