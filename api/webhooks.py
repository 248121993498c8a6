"""RunPod's door: `POST /webhooks/runpod/{token}`. The token is the only proof; the body is a hint (runpod.md, 2).

A receipt is kept, the row made due now, the bell rung, 200. What the job really came to is read from /status later.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from uuid import UUID

import structlog
from fastapi import APIRouter, Request

from api.errors import GarbledWebhook
from api.metrics import WEBHOOKS
from api.state import State, state_of
from shared import generations, lenient, sql
from shared.errors import Conflict, InvalidToken, NotFound
from shared.generations import Generation
from shared.webhooks import is_remote_id, read_webhook_token

_SQL = sql.load(__file__)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RECEIPTS_PER_ATTEMPT = 20
THREAD_ABOVE_BYTES = 256 * 1024
STATUS_CHARACTERS = 40
_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})

router = APIRouter(tags=["webhooks"])


@dataclass(frozen=True, slots=True)
class Word:
    """What a webhook's body says: RunPod's id of the job and its status, and the digest of the whole."""

    remote_id: str
    status: str | None
    digest: bytes

    @property
    def ended(self) -> str | None:
        """The status when it is a terminal one."""
        return self.status if self.status in _ENDED else None


@router.post("/webhooks/runpod/{token}", operation_id="receiveRunpodWebhook")
async def receive(request: Request, token: str) -> dict[str, bool]:
    """Take note of the end of a job. For RunPod only: the address is a capability."""
    state = state_of(request)
    try:
        generation_id, attempt = read_webhook_token(state.webhooks, token)
    except InvalidToken as error:
        WEBHOOKS.labels("forged").inc()
        raise NotFound("There is nothing under this address.") from error
    body = await request.body()
    try:
        word = await asyncio.to_thread(read_word, body) if len(body) > THREAD_ABOVE_BYTES else read_word(body)
    except GarbledWebhook:
        WEBHOOKS.labels("garbage").inc()
        raise
    hurried = await take_note(state, generation_id, attempt, word)
    if hurried is not None:
        await state.tell([hurried])
    return {"received": True}


def read_word(body: bytes) -> Word:
    """The id and status in a webhook's body.

    Raises:
        GarbledWebhook: not JSON, or without an id that RunPod could have given.
    """
    try:
        said = lenient.loads(body)
    except (ValueError, RecursionError) as error:
        raise GarbledWebhook("The body is not JSON.") from error
    remote_id = said.get("id") if isinstance(said, dict) else None
    if not isinstance(remote_id, str) or not is_remote_id(remote_id):
        raise GarbledWebhook("The body carries no job id.")
    status = said.get("status")
    known = (
        status[:STATUS_CHARACTERS] if isinstance(status, str) and status.isascii() and status.isprintable() else None
    )
    return Word(remote_id, known, hashlib.sha256(body).digest())


async def take_note(state: State, generation_id: UUID, attempt: int, word: Word) -> Generation | None:
    """Write down what was heard and make the row due; None when that changes nothing for the generation.

    Raises:
        NotFound: there is no such attempt.
        Conflict: the attempt is known to be another job of RunPod's.
    """
    async with state.connection() as connection, connection.transaction():
        # The generation first, then its attempt: the order in which the worker's statements lock them.
        hurried = await generations.hurry(
            connection, generation_id, attempt=attempt, completed=word.ended == "COMPLETED"
        )
        standing = await connection.fetchval(_SQL["record_word"], generation_id, attempt, word.remote_id, word.ended)
        if standing is None:
            WEBHOOKS.labels("unknown").inc()
            raise NotFound("There is no such attempt.")
        if standing != word.remote_id:
            WEBHOOKS.labels("contradiction").inc()
            log.warning("webhook.contradiction", generation_id=str(generation_id), attempt=attempt)
            raise Conflict("This attempt is another job.")
        deliveries = await connection.fetchval(
            _SQL["keep_receipt"],
            generation_id,
            attempt,
            word.digest,
            word.remote_id,
            word.status,
            RECEIPTS_PER_ATTEMPT,
        )
    outcome = "dropped" if deliveries is None else "new" if deliveries == 1 else "repeated"
    WEBHOOKS.labels(outcome).inc()
    log.info("webhook.received", generation_id=str(generation_id), attempt=attempt, status=word.status, kind=outcome)
    return hurried
