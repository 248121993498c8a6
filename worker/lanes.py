"""Lanes: those of a type that wait for the same places, and who of them takes which first."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from shared.generations import Type


@dataclass(slots=True)
class Lane:
    """Those in one that a claim may take, as it read them (line.sql: heads).

    At an endpoint that has no place for everybody, whoever had none there while they waited is before whoever did, also
    where the clock has passed both. So their order is another one at each endpoint.
    """

    waiting: list[asyncpg.Record] = field(default_factory=list)
    taken: set[UUID] = field(default_factory=set)
    _orders: dict[str, list[asyncpg.Record]] = field(default_factory=dict)

    def first(self, endpoint_id: str) -> asyncpg.Record | None:
        """Who takes the next place there, of those who have none yet."""
        if endpoint_id not in self._orders:
            self._orders[endpoint_id] = sorted(self.waiting, key=lambda row: _place(row, endpoint_id), reverse=True)
        order = self._orders[endpoint_id]
        while order and order[-1]["id"] in self.taken:
            order.pop()
        return order[-1] if order else None


def lanes(waiting: Iterable[asyncpg.Record]) -> dict[tuple[Type, str], Lane]:
    """By type and name; nameless are those that go anywhere."""
    found: dict[tuple[Type, str], Lane] = {}
    for row in waiting:
        found.setdefault((Type(row["type"]), row["lane"]), Lane()).waiting.append(row)
    return found


def ahead(row: asyncpg.Record, endpoint_id: str) -> int:
    """How far somebody stands ahead of their line's clock there; once it has passed them, by where their place ends."""
    return int(row["ahead"] or (had(row, endpoint_id) and row["ends"].get(endpoint_id, 1)))


def had(row: asyncpg.Record, endpoint_id: str) -> int:
    """How lately they had a place there while this one waited: 0 for never, the most for who has one."""
    return int(row["had"].get(endpoint_id, 0))


def _place(row: asyncpg.Record, endpoint_id: str) -> tuple[int, bool, int, UUID]:
    return ahead(row, endpoint_id), had(row, endpoint_id) > 0, row["vstart"], row["id"]
