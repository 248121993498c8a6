"""What a generation costs: one function for quote, submit and capture. Credits are whole numbers.

Rule (ledger.md, Behaviour 4 and 5): cost = unit price x count x multiplier, rounded up, in one place. The multiplier
comes from the tier of the batch that was ordered; a partial delivery is charged for what came, at that same tier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

import asyncpg

from shared import sql
from shared.database import Connection
from shared.errors import NotFound
from shared.generations import Type

_SQL = sql.load(__file__)

PERMILLE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A version of a type's price, as it stands in `price_versions`; never edited."""

    version: int
    type: Type
    unit_credits: int
    batch_multipliers: Sequence[Mapping[str, int]]
    effective_at: datetime

    def multiplier_permille(self, batch_size: int) -> int:
        """The multiplier of the highest tier that this batch reaches; 1000 means unchanged."""
        reached = [tier for tier in self.batch_multipliers if tier["min_batch"] <= batch_size]
        return max(reached, key=lambda tier: tier["min_batch"])["multiplier_permille"] if reached else PERMILLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A cost with its arithmetic: the snapshot that a hold keeps."""

    price_version: int
    type: str
    unit_credits: int
    batch_size: int
    multiplier_permille: int
    total: int

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> Self:
        """Read back what `as_snapshot` wrote on a hold."""
        return cls(**snapshot)

    def as_snapshot(self) -> dict[str, Any]:
        """JSON-compatible, for the hold."""
        return asdict(self)

    def lines(self) -> list[dict[str, Any]]:
        """The arithmetic in lines that a person can follow; the amounts add up to the total."""
        full = self.unit_credits * self.batch_size
        lines: list[dict[str, Any]] = [
            {"label": f"{self.batch_size} x {self.type} at {self.unit_credits}", "amount": full}
        ]
        if self.total != full:
            percent = (self.multiplier_permille - PERMILLE) / 10
            lines.append({"label": f"batch price {percent:+g} %", "amount": self.total - full})
        return lines

    def for_delivered(self, delivered: int) -> int:
        """What is charged when `delivered` of the batch came; never more than the total."""
        return min(self.total, _round(self.unit_credits, delivered, self.multiplier_permille))


def _round(unit_credits: int, count: int, multiplier_permille: int) -> int:
    """The one place where a price is rounded: up to the next whole credit."""
    return -(-unit_credits * count * multiplier_permille // PERMILLE)


def cost(price: Price, *, batch_size: int) -> Cost:
    """What a batch costs at this price."""
    permille = price.multiplier_permille(batch_size)
    return Cost(
        price_version=price.version,
        type=price.type.value,
        unit_credits=price.unit_credits,
        batch_size=batch_size,
        multiplier_permille=permille,
        total=_round(price.unit_credits, batch_size, permille),
    )


def _price(row: asyncpg.Record) -> Price:
    return Price(
        version=row["version"],
        type=Type(row["type"]),
        unit_credits=row["unit_credits"],
        batch_multipliers=row["batch_multipliers"],
        effective_at=row["effective_at"],
    )


async def current(connection: Connection, *, now: datetime | None = None) -> dict[Type, Price]:
    """The price in force for every type."""
    return {Type(row["type"]): _price(row) for row in await connection.fetch(_SQL["current"], now)}


async def at_version(connection: Connection, version: int) -> Price:
    """The price that a quote locked.

    Raises:
        NotFound: there is no such version.
    """
    row = await connection.fetchrow(_SQL["at_version"], version)
    if row is None:
        raise NotFound(f"There is no price version {version}.")
    return _price(row)
