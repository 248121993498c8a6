"""What a generation costs: one function for quote, submit and capture. Credits are whole numbers.

Rule (ledger.md, Behaviour 4 and 5): cost = unit price x count x multiplier, rounded up, in one place. The unit price is
the version's, and what its surcharges add for the parameters that were asked for. The multiplier comes from the tier of
the batch that was ordered; a partial delivery is charged for what came, at that same tier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Self

from shared.generations import Type

PERMILLE = 1000

Measure = Literal["steps", "pixels", "seconds"]


def measures(parameters: Mapping[str, Any]) -> dict[Measure, int]:
    """What a price may depend on, of the parameters of an order. `pixels` when both sides are given."""
    width, height = parameters.get("width"), parameters.get("height")
    found: dict[Measure, int | None] = {
        "steps": parameters.get("steps"),
        "seconds": parameters.get("seconds"),
        "pixels": None if width is None or height is None else width * height,
    }
    return {name: amount for name, amount in found.items() if amount is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surcharge:
    """Per output, every started `step` above `included` adds `credits`."""

    parameter: Measure
    included: int
    step: int
    credits: int

    def each(self, amount: int) -> int:
        """What `amount` of the parameter adds to the unit price."""
        return self.credits * max(0, -((self.included - amount) // self.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra(Surcharge):
    """A surcharge as an order met it, with `amount` of its parameter."""

    amount: int

    @property
    def unit_credits(self) -> int:
        """What it adds to the unit price."""
        return self.each(self.amount)

    @property
    def label(self) -> str:
        """In words, as far as the person decided it."""
        return f"{self.parameter} {self.amount} ({self.amount - self.included} above {self.included})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A version of a type's price, as it stands in `price_versions`; never edited.

    `endpoint` is the one that it is for; None: wherever the type is sent.
    """

    version: int
    type: Type
    endpoint: str | None = None
    unit_credits: int
    batch_multipliers: Sequence[Mapping[str, int]]
    surcharges: Sequence[Surcharge] = ()
    effective_at: datetime

    def multiplier_permille(self, batch_size: int) -> int:
        """The multiplier of the highest tier that this batch reaches; 1000 means unchanged."""
        reached = [tier for tier in self.batch_multipliers if tier["min_batch"] <= batch_size]
        return max(reached, key=lambda tier: tier["min_batch"])["multiplier_permille"] if reached else PERMILLE

    def extras(self, parameters: Mapping[str, Any]) -> tuple[Extra, ...]:
        """The surcharges that these parameters meet, in the order of the price list."""
        given = measures(parameters)
        return tuple(
            Extra(**asdict(surcharge), amount=given[surcharge.parameter])
            for surcharge in self.surcharges
            if surcharge.parameter in given and surcharge.each(given[surcharge.parameter]) > 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A cost with its arithmetic: the snapshot that a hold keeps."""

    price_version: int
    type: str
    unit_credits: int
    batch_size: int
    multiplier_permille: int
    total: int
    surcharges: tuple[Extra, ...] = ()

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> Self:
        """Read back what `as_snapshot` wrote on a hold; one from before there were surcharges has none."""
        extras = tuple(Extra(**extra) for extra in snapshot.get("surcharges", ()))
        return cls(**{**snapshot, "surcharges": extras})

    def as_snapshot(self) -> dict[str, Any]:
        """JSON-compatible, for the hold."""
        return asdict(self)

    def lines(self) -> list[dict[str, Any]]:
        """The arithmetic in lines that a person can follow; the amounts add up to the total."""
        parts = [(self.type, self.unit_credits), *((extra.label, extra.unit_credits) for extra in self.surcharges)]
        lines: list[dict[str, Any]] = [
            {"label": f"{self.batch_size} x {label} at {each}", "amount": self.batch_size * each}
            for label, each in parts
        ]
        full = sum(line["amount"] for line in lines)
        if self.total != full:
            lines.append({"label": f"batch price {_percent(self.multiplier_permille)}", "amount": self.total - full})
        return lines

    def for_delivered(self, delivered: int) -> int:
        """What is charged when `delivered` of the batch came; never more than the total."""
        unit_credits = self.unit_credits + sum(extra.unit_credits for extra in self.surcharges)
        return min(self.total, _round(unit_credits, delivered, self.multiplier_permille))


def _round(unit_credits: int, count: int, multiplier_permille: int) -> int:
    """The one place where a price is rounded: up to the next whole credit."""
    return -(-unit_credits * count * multiplier_permille // PERMILLE)


def _percent(multiplier_permille: int) -> str:
    whole, tenths = divmod(abs(multiplier_permille - PERMILLE), 10)
    return f"{'-' if multiplier_permille < PERMILLE else '+'}{whole}{f'.{tenths}' if tenths else ''} %"


def cost(price: Price, *, batch_size: int, parameters: Mapping[str, Any] | None = None) -> Cost:
    """What a batch costs at this price with these parameters of an order; those without a price do not matter."""
    permille = price.multiplier_permille(batch_size)
    extras = price.extras(parameters or {})
    return Cost(
        price_version=price.version,
        type=price.type.value,
        unit_credits=price.unit_credits,
        batch_size=batch_size,
        multiplier_permille=permille,
        total=_round(price.unit_credits + sum(extra.unit_credits for extra in extras), batch_size, permille),
        surcharges=extras,
    )
