"""The capability in RunPod's webhook address: RunPod signs nothing, so the address itself is the secret (runpod.md, 2).

The token names the generation and the attempt, so that a webhook finds its row even when our submit never heard the
answer. The worker makes it, the API reads it.
"""

import re
from uuid import UUID

from shared.errors import InvalidToken
from shared.signing import Signer

PURPOSE = "webhook"
_REMOTE_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


def webhook_token(signer: Signer, generation_id: UUID, *, attempt: int) -> str:
    """The capability of one attempt's webhook. Never logged."""
    return signer.sign(generation_id.bytes + attempt.to_bytes(4, "big"))


def read_webhook_token(signer: Signer, token: str) -> tuple[UUID, int]:
    """The generation and attempt that a webhook address names.

    Raises:
        InvalidToken: forged or malformed.
    """
    payload = signer.verify(token)
    if len(payload) != 20:
        raise InvalidToken("This token was not issued here.")
    return UUID(bytes=payload[:16]), int.from_bytes(payload[16:], "big")


def webhook_url(signer: Signer, public_url: str, generation_id: UUID, *, attempt: int) -> str:
    """Where RunPod is asked to report the end of this attempt."""
    return f"{public_url}/webhooks/runpod/{webhook_token(signer, generation_id, attempt=attempt)}"


def is_remote_id(text: str) -> bool:
    """Whether a text can be RunPod's id of a job: it goes into the path of calls that carry our key."""
    return _REMOTE_ID.fullmatch(text) is not None
