"""Cursors: where a list goes on. Opaque, signed, and good only for the person and the filters they were made for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import orjson

from shared.errors import InvalidCursor, InvalidToken
from shared.signing import Signer

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Between two generations: after the one with this time and id, newest first."""

    created_at: datetime
    id: UUID


def write_cursor(signer: Signer, place: Place, *, scope: object) -> str:
    """A cursor for this place; `scope` is everything that the list was asked for, JSON-compatible."""
    seconds = round(place.created_at.timestamp() * _MICROSECONDS)
    return signer.sign(seconds.to_bytes(8, "big") + place.id.bytes + _bound(scope))


def read_cursor(signer: Signer, cursor: str, *, scope: object) -> Place:
    """The place that a cursor names.

    Raises:
        InvalidCursor: we did not write it, or not for this scope.
    """
    try:
        payload = signer.verify(cursor)
    except InvalidToken as error:
        raise InvalidCursor("This cursor was not issued here; start again without one.") from error
    if payload[24:] != _bound(scope):
        raise InvalidCursor("This cursor belongs to another list; start again without one.")
    microseconds = int.from_bytes(payload[:8], "big")
    seconds, rest = divmod(microseconds, _MICROSECONDS)
    created_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    return Place(created_at, UUID(bytes=payload[8:24]))


def _bound(scope: object) -> bytes:
    return sha256(orjson.dumps(scope, option=orjson.OPT_SORT_KEYS)).digest()[:8]
