"""Cursors: where a list goes on. Opaque, signed, and good only for the person and the filters they were made for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

import orjson

from shared.errors import InvalidCursor, InvalidToken
from shared.signing import Signer

_MICROSECONDS = 1_000_000
_BOUND_BYTES = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Between two generations: after the one with this time and id, newest first."""

    created_at: datetime
    id: UUID


def write_cursor(signer: Signer, place: Place, *, scope: object) -> str:
    """A cursor for this place; `scope` is everything that the list was asked for, JSON-compatible."""
    seconds = round(place.created_at.timestamp() * _MICROSECONDS)
    return _seal(signer, seconds.to_bytes(8, "big") + place.id.bytes, scope)


def read_cursor(signer: Signer, cursor: str, *, scope: object) -> Place:
    """The place that a cursor names.

    Raises:
        InvalidCursor: we did not write it, or not for this scope.
    """
    place = _open(signer, cursor, scope)
    microseconds = int.from_bytes(place[:8], "big")
    seconds, rest = divmod(microseconds, _MICROSECONDS)
    created_at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    return Place(created_at, UUID(bytes=place[8:]))


def write_number(signer: Signer, number: int, *, scope: object) -> str:
    """A cursor for a list that is numbered."""
    return _seal(signer, number.to_bytes(8, "big"), scope)


def read_number(signer: Signer, cursor: str, *, scope: object) -> int:
    """The number that a cursor names.

    Raises:
        InvalidCursor: we did not write it, or not for this scope.
    """
    return int.from_bytes(_open(signer, cursor, scope), "big")


def _seal(signer: Signer, place: bytes, scope: object) -> str:
    return signer.sign(place + _bound(scope))


def _open(signer: Signer, cursor: str, scope: object) -> bytes:
    try:
        payload = signer.verify(cursor)
    except InvalidToken as error:
        raise InvalidCursor("This cursor was not issued here; start again without one.") from error
    if payload[-_BOUND_BYTES:] != _bound(scope):
        raise InvalidCursor("This cursor belongs to another list; start again without one.")
    return payload[:-_BOUND_BYTES]


def _bound(scope: object) -> bytes:
    return sha256(orjson.dumps(scope, option=orjson.OPT_SORT_KEYS)).digest()[:_BOUND_BYTES]
