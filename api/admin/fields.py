"""What the bodies of several acts have in common."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Annotated
from uuid import uuid4

from fastapi import Header
from pydantic import Field, StringConstraints

from api.idempotency import read_key
from shared.database import Connection
from shared.errors import TwinError

AMOUNT_LIMIT = 10**12
"""Credits; as much as the ledger moves at once."""
REASON_CHARACTERS = 500
SOURCE_REF_CHARACTERS = 255
_LEDGER_KEY_CHARACTERS = 255

UserId = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,255}$", max_length=255),
    Field(description="as in the `sub` of the person's sessions", examples=["user_2ab"]),
]
Reason = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=REASON_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$"
    ),
    Field(description="why, for whoever reads the audit log", examples=["Support case 4711"]),
]
ToldReason = Annotated[
    Reason, Field(description="why; the person reads it beside the entry, and so does whoever reads the audit log")
]
SourceRef = Annotated[str, Field(min_length=1, max_length=SOURCE_REF_CHARACTERS, pattern=r"^[\x21-\x7e]+$")]
Credits = Annotated[int, Field(ge=0, le=AMOUNT_LIMIT)]
OptionalKey = Annotated[str | None, Header(description="1 to 255 visible ASCII, kept for ever; fresh by default")]

REPLAYED: Mapping[str, str] = {"Idempotent-Replayed": "true"}


def headers(*, replayed: bool) -> Mapping[str, str]:
    """What a reply says when its act had been done before."""
    return REPLAYED if replayed else {}


def ledger_key(act: str, key: str) -> str:
    """The key of an operator's act in the ledger, apart from the keys that the product gives its own."""
    named = f"{act}:{key}"
    return named if len(named) <= _LEDGER_KEY_CHARACTERS else f"{act}:{hashlib.sha256(key.encode()).hexdigest()}"


def key_or_fresh(header: str | None) -> str:
    """The Idempotency-Key, or one that nobody has used when there is none.

    Raises:
        InvalidIdempotencyKey: not 1 to 255 visible ASCII characters.
    """
    return read_key(header) or str(uuid4())


@contextlib.contextmanager
def pointing(**fields: type[TwinError] | tuple[type[TwinError], ...]) -> Iterator[None]:
    """Have a refusal of the ledger name the field that it is about: `pointing(amount=NotEnough)`."""
    try:
        yield
    except TwinError as error:
        field = next((name for name, kinds in fields.items() if isinstance(error, kinds)), None)
        if field is None:
            raise
        problem = {"pointer": f"/{field}", "code": error.code, "detail": error.detail}
        raise type(error)(error.detail, **{**error.facts, "errors": [problem]}) from error


@contextlib.asynccontextmanager
async def reading(connection: Connection) -> AsyncIterator[None]:
    """Several looks that see one moment; nothing is written."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        yield
