"""Whether a streamed text is whole when its job has ended, and what it is: the settled text is what its chunks join to.

RunPod's full output has the last word where there is one. Where there is none (generator workers without aggregation),
all that was drained takes its place, read by the same reader, if nothing of it can be missing, and nothing can be there
twice since RunPod ran the job again. The chunks are brought in line: what each look showed was a guess. A text that
broke off is settled by TWIN_BROKEN_STREAM: nothing kept and charged, or what came.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.chunks import MAXIMUM_TEXT_CHARACTERS
from shared.generations import Generation
from worker import streams, texts
from worker.context import Context
from worker.endpoints import Profile
from worker.lease import is_past
from worker.remote import RemoteJob, RemoteState
from worker.stream import is_streamed
from worker.streams import StreamState, Trouble

DRAIN_PATIENCE = timedelta(seconds=20)
"""How long a job without output waits for its last chunks, from when somebody first looked for them; then it is settled
with what there is. It waits for that look until its finish deadline: what was made is not lost to texts of others."""
_DRAINED = (RemoteState.COMPLETED, RemoteState.FAILED, RemoteState.TIMED_OUT)
"""Ended by itself: what it said last may still come. Who cancels a text is sold what was shown."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Its last chunks are not here yet."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is delivered. `partial`: it broke off, and is kept and charged all the same."""

    text: str
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """Nothing is kept or charged."""

    code: str
    detail: str


Verdict = Awaited | Text | Broken


def sells_broken(context: Context, generation: Generation) -> bool:
    """Whether what came of a text is sold when it breaks off; its person's own cancel breaks it off, too."""
    return context.settings.broken_stream == "charge" and is_streamed(generation, context.endpoints.pursued(generation))


@dataclass(frozen=True, slots=True)
class _Told:
    """What an output says: one text, and the error that hides in it."""

    text: str
    error: Any


async def judge(context: Context, generation: Generation, job: RemoteJob) -> Verdict | None:
    """What becomes of a generation whose job has ended; None when it is not for its stream to say.

    When this returns a text, the chunks join to it.
    """
    profile = context.endpoints.pursued(generation)
    whole = _read(profile, generation, job.output)
    completed, charge_broken = job.state is RemoteState.COMPLETED, context.settings.broken_stream == "charge"
    async with context.pool.acquire() as connection, connection.transaction():
        await streams.lock(connection, generation)
        state = await streams.state(connection, generation)
        if state is None and not is_streamed(generation, profile):
            return None
        ended = job.state in _DRAINED
        if not completed and not (charge_broken and (ended or generation.cancel_requested_at is not None)):
            return None
        # An error is the answer, unless what came before it is to be sold.
        is_open = not whole.text.strip() and (whole.error is None or charge_broken)
        if ended and is_open and _is_awaited(context, generation, state):
            await streams.open_stream(connection, generation)
            await streams.hurry(connection, generation)
            return Awaited()
        verdict = _of_whole(job, whole) if completed else None
        if verdict is None or (charge_broken and not isinstance(verdict, Text)):
            came = _read(profile, generation, await streams.drained(connection, generation))
            if completed and verdict is None:
                verdict = _of_pieces(job, came, trouble=state.trouble if state and state.ended else "undrained")
            if charge_broken and came.text.strip() and not isinstance(verdict, Text):
                verdict = Text(came.text[:MAXIMUM_TEXT_CHARACTERS], partial=True)
        if isinstance(verdict, Text):
            await streams.open_stream(connection, generation)  # chunks belong to a stream
            await streams.conclude(connection, generation, verdict.text)
        return verdict


def _is_awaited(context: Context, generation: Generation, state: StreamState | None) -> bool:
    """Whether more of a stream may come before the finish deadline."""
    if is_past(context, generation, generation.deadline_at):
        return False
    return state is None or not (state.ended or is_past(context, generation, state.looked_at, by=DRAIN_PATIENCE))


def _read(profile: Profile, generation: Generation, output: Any) -> _Told:
    """The error is for the endpoint's reader to find; all that it would tell apart is one text here."""
    delivery = profile.kind.read(generation.type, output)
    return _Told(texts.joined(output) or "".join(item.text or "" for item in delivery.items), delivery.error)


def _of_whole(job: RemoteJob, told: _Told) -> Text | Broken | None:
    error = told.error or (None if told.text.strip() else job.error)
    if error is not None:
        return Broken("model-failed", "The model failed.")
    return _text(told) if told.text.strip() else None


def _of_pieces(job: RemoteJob, told: _Told, *, trouble: Trouble | None) -> Text | Broken | None:
    if told.error is not None:
        return Broken("model-failed", "The model failed.")
    if trouble == "oversized":
        return _too_long()
    if told.text.strip() and trouble is not None:
        return Broken("stream-broken", "The text broke off before its end.")
    if told.text.strip() and job.is_rerun:
        # What a worker said that RunPod lost stands before what the next one said; nothing tells where that begins.
        return Broken("stream-broken", "The text broke off and was begun again.")
    return _text(told) if told.text.strip() else None


def _text(told: _Told) -> Text | Broken:
    return Text(told.text) if len(told.text) <= MAXIMUM_TEXT_CHARACTERS else _too_long()


def _too_long() -> Broken:
    return Broken("unfit-output", "The model's result cannot be shown.")
