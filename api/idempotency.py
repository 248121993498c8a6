"""Idempotency-Key (http.md): claimed in the transaction that does the work, so a retry can never do it twice.

Only successful replies are kept, because a refusal rolls the claim back with everything else. Kept for 30 days.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from api.errors import InProgress, InvalidIdempotencyKey
from shared import sql
from shared.database import Connection
from shared.errors import KeyReused

_SQL = sql.load(__file__)

LIFETIME = timedelta(days=30)
WAIT_MILLISECONDS = 2000
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A key of a person for one operation, with the fingerprint of the request that came with it."""

    user_id: str
    operation: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply that was given before; `body` is exactly what was sent."""

    generation_id: UUID
    status: int
    body: bytes


def read_key(header: str | None) -> str | None:
    """The key in an Idempotency-Key header, without the quotes it may come in; None without a header.

    Raises:
        InvalidIdempotencyKey: not 1 to 255 visible ASCII characters.
    """
    if header is None:
        return None
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidIdempotencyKey("An Idempotency-Key has 1 to 255 visible ASCII characters.")
    return key


def fingerprint(body: Mapping[str, Any]) -> bytes:
    """SHA-256 over canonical JSON: the order of fields does not matter."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


async def claim(connection: Connection, wanted: Claim) -> Kept | None:
    """Take the key for this transaction, or return the reply that it was given before.

    Raises:
        KeyReused: the key came with another body before.
        InProgress: another request holds the key, and did not finish within `WAIT_MILLISECONDS`.
    """
    name = (wanted.user_id, wanted.operation, wanted.key)
    try:
        ours = await connection.fetchval(_SQL["claim"], *name, wanted.fingerprint, str(WAIT_MILLISECONDS), LIFETIME)
    except asyncpg.LockNotAvailableError as error:
        raise _in_progress() from error
    if ours:
        return None
    row = await connection.fetchrow(_SQL["recall"], *name)
    if row is None or row["generation_id"] is None:
        raise _in_progress()
    if row["fingerprint"] != wanted.fingerprint:
        raise KeyReused("This Idempotency-Key was used before with another body; take a new key for a new request.")
    return Kept(row["generation_id"], row["status"], row["body"].encode())


async def keep(connection: Connection, wanted: Claim, reply: Kept) -> None:
    """Keep the reply for whoever repeats the request."""
    await connection.execute(
        _SQL["keep"],
        wanted.user_id,
        wanted.operation,
        wanted.key,
        reply.generation_id,
        reply.status,
        reply.body.decode(),
    )


def _in_progress() -> InProgress:
    return InProgress("A request with this Idempotency-Key is being worked on right now; repeat it in a moment.")
