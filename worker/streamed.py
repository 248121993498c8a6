"""Whether a streamed text is whole when its job has ended, and what it is: the settled text is what its chunks join to.

RunPod's full output has the last word where there is one; the chunks are brought in line with it. Where there is none
(generator workers without aggregation), the chunks are the text, if nothing of them can be missing. A text that broke
off is settled by TWIN_BROKEN_STREAM: nothing kept and charged, or what came.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import chunks
from shared.chunks import MAXIMUM_TEXT_CHARACTERS
from shared.generations import Generation
from worker import streams
from worker.chunks import text_of
from worker.context import Context
from worker.lease import is_past
from worker.outputs import Delivery
from worker.remote import RemoteJob, RemoteState
from worker.stream import is_streamed
from worker.streams import Trouble

DRAIN_PATIENCE = timedelta(seconds=20)
"""How long a job without output waits for its last chunks; then it is settled with what there is."""
_DRAINED = (RemoteState.COMPLETED, RemoteState.FAILED, RemoteState.TIMED_OUT)


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


async def judge(context: Context, generation: Generation, job: RemoteJob, *, received_at: datetime) -> Verdict | None:
    """What becomes of a generation whose job has ended; None when it is not for its stream to say.

    When this returns a text, the chunks join to it.
    """
    profile = context.endpoints.pursued(generation)
    delivery = profile.kind.read(generation.type, job.output)
    whole = _whole(job.output, delivery)
    charge_broken = context.settings.broken_stream == "charge"
    async with context.pool.acquire() as connection, connection.transaction():
        state = await streams.state(connection, generation)
        if state is None and not is_streamed(generation, profile):
            return None
        if job.state not in _DRAINED or (job.state is not RemoteState.COMPLETED and not charge_broken):
            return None
        drained = state is not None and state.ended
        patient = not is_past(context, generation, received_at, by=DRAIN_PATIENCE)
        if patient and not drained and not whole.strip():
            await streams.open_stream(connection, generation)
            await streams.hurry(connection, generation)
            return Awaited()
        came = await chunks.text(connection, generation.id, attempt=generation.attempt)
        verdict: Text | Broken | None = None
        if job.state is RemoteState.COMPLETED:
            trouble = state.trouble if state and drained else "undrained"
            verdict = _verdict(job, delivery, whole, came, trouble=trouble)
        if not isinstance(verdict, Text) and charge_broken and came.strip():
            verdict = Text(came, partial=True)
        if isinstance(verdict, Text):
            await streams.open_stream(connection, generation)  # chunks belong to a stream
            await streams.conclude(connection, generation, verdict.text)
        return verdict


def _verdict(
    job: RemoteJob, delivery: Delivery, whole: str, came: str, *, trouble: Trouble | None
) -> Text | Broken | None:
    error = _hidden_error(job, delivery)
    verdict: Text | Broken | None = None
    if error is not None:
        verdict = Broken("model-failed", "The model failed.")
    elif len(whole) > MAXIMUM_TEXT_CHARACTERS or (trouble == "oversized" and not whole.strip()):
        verdict = Broken("unfit-output", "The model's result cannot be shown.")
    elif whole.strip():
        verdict = Text(whole)
    elif came.strip() and trouble is not None:
        verdict = Broken("stream-broken", "The text broke off before its end.")
    elif came.strip():
        verdict = Text(came)
    return verdict


def _hidden_error(job: RemoteJob, delivery: Delivery) -> Any:
    """What a COMPLETED job says went wrong, the last of its chunks included."""
    last = job.output[-1] if isinstance(job.output, list) and job.output else None
    if isinstance(last, Mapping) and last.get("error"):
        return last["error"]
    return delivery.error or (None if delivery.items else job.error)


def _whole(output: Any, delivery: Delivery) -> str:
    """The text in a full output. A list is the chunks; what else there is, the endpoint's parser knows."""
    if isinstance(output, list):
        return text_of(output)
    return "".join(item.text or "" for item in delivery.items)
