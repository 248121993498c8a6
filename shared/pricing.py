"""The price list: versions that are never edited, each in force until another one for the same type and endpoint is.

The arithmetic is in `shared/costs.py`. Functions take a connection and never commit; `now` is for tests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import asyncpg
import orjson

from shared import sql
from shared.costs import Cost, Extra, Measure, Price, Surcharge, cost
from shared.database import Connection
from shared.errors import InvalidPrice, KeyReused, NoSuchEndpoint, NotFound, TwinError
from shared.generations import Type

__all__ = [
    "Cost", "Extra", "Measure", "Price", "Surcharge", "Version",
    "add", "at_version", "cost", "current", "in_force", "menu", "versions",
]  # fmt: skip

_SQL = sql.load(__file__)

_MISFITS = {
    "price_versions_surcharges_check": "surcharges",
    "price_versions_surcharges_plain": "surcharges",
    "price_versions_batch_multipliers_check": "batch_multipliers",
    "price_versions_batch_multipliers_plain": "batch_multipliers",
    "price_versions_endpoint_is_a_name": "endpoint",
    "price_versions_unit_credits_check": "unit_credits",
    "price_versions_within_a_hold": "unit_credits",
    "price_versions_withdrawn_says_nothing_else": "withdrawn",
}
"""By the constraint that refuses it: what of a price is wrong."""


def _price(row: asyncpg.Record) -> Price:
    return Price(
        version=row["version"],
        type=Type(row["type"]),
        endpoint=row["endpoint"],
        unit_credits=row["unit_credits"],
        batch_multipliers=row["batch_multipliers"],
        surcharges=tuple(Surcharge(**surcharge) for surcharge in row["surcharges"]),
        effective_at=row["effective_at"],
    )


async def menu(connection: Connection, *, now: datetime | None = None) -> list[Price]:
    """Every price in force, those of single endpoints too."""
    return [_price(row) for row in await connection.fetch(_SQL["menu"], now)]


async def current(connection: Connection, *, now: datetime | None = None) -> dict[Type, Price]:
    """The price in force for every type, for whoever names no endpoint."""
    return {Type(row["type"]): _price(row) for row in await connection.fetch(_SQL["current"], now)}


async def in_force(
    connection: Connection, generation_type: Type, *, endpoint: str | None = None, now: datetime | None = None
) -> Price:
    """The price in force for a type: at this endpoint, or without one the type's own.

    Raises:
        NoSuchEndpoint: the endpoint has no price of its own for this type, so it cannot be asked for.
    """
    row = await connection.fetchrow(_SQL["in_force"], generation_type.value, endpoint, now)
    if row is None:
        raise NoSuchEndpoint(f"{endpoint} is no endpoint that can be asked for {generation_type.value}.")
    return _price(row)


async def at_version(connection: Connection, version: int) -> Price:
    """The price that a quote locked.

    Raises:
        NotFound: there is no such version.
    """
    row = await connection.fetchrow(_SQL["at_version"], version)
    if row is None:
        raise NotFound(f"There is no price version {version}.")
    return _price(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A price with its history: who added it and when, and its link of the chain.

    `ends_at`: from then on another version is in force; None when none is known of. `withdrawn`: while it is in force
    the endpoint has no price of its own, and cannot be asked for.
    """

    price: Price
    withdrawn: bool
    ends_at: datetime | None
    created_at: datetime
    created_by: str
    note: str | None
    hash: bytes


async def versions(
    connection: Connection, *, types: Sequence[Type] = (), below: int | None = None, limit: int
) -> list[Version]:
    """Up to `limit` versions, newest first: those of `types` (none means all), lower than `below`."""
    rows = await connection.fetch(_SQL["versions"], below, [kind.value for kind in types], limit)
    return [
        Version(
            price=_price(row),
            withdrawn=row["withdrawn"],
            ends_at=row["ends_at"],
            created_at=row["created_at"],
            created_by=row["created_by"],
            note=row["note"],
            hash=row["hash"],
        )
        for row in rows
    ]


async def add(
    connection: Connection,
    *,
    key: str,
    generation_type: Type,
    unit_credits: int,
    actor: str,
    endpoint: str | None = None,
    batch_multipliers: Sequence[Mapping[str, int]] = (),
    surcharges: Sequence[Surcharge] = (),
    effective_at: datetime | None = None,
    note: str | None = None,
    withdrawn: bool = False,
    now: datetime | None = None,
) -> tuple[Version, bool]:
    """Add a version, in force from `effective_at` (None: from now); and whether this key had added it before.

    `withdrawn` takes the endpoint's own price away; such a version says nothing else.

    Raises:
        InvalidPrice: it would begin in the past, or is none that the catalogue can hold; `field` names what is wrong.
        KeyReused: the key added another price.
    """
    tiers, extras = orjson.dumps(list(batch_multipliers)), orjson.dumps([asdict(extra) for extra in surcharges])
    try:
        answer = await connection.fetchval(
            _SQL["add"],
            key,
            generation_type.value,
            endpoint,
            unit_credits,
            tiers.decode(),
            extras.decode(),
            effective_at,
            note,
            actor,
            now,
            withdrawn,
        )
    except asyncpg.PostgresError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from error
    outcome = orjson.loads(answer)
    [version] = await versions(connection, below=outcome["version"] + 1, limit=1)
    return version, outcome["replayed"]


def _refusal(error: asyncpg.PostgresError) -> TwinError | None:
    match error.sqlstate:
        case "TW001":
            return KeyReused("This key was used before for another price; take a new key for a new price.")
        case "TW050":
            return InvalidPrice(
                "A price cannot begin in the past; leave effective_at out for one that begins now.",
                field="effective_at",
            )
        case "23514" if (field := _MISFITS.get(error.constraint_name or "")) is not None:
            if field == "withdrawn":
                return InvalidPrice("What is withdrawn is an endpoint's own price, and costs nothing.", field=field)
            if error.constraint_name == "price_versions_within_a_hold":
                return InvalidPrice("The dearest order at this price would cost more than 10^12 credits.", field=field)
            return InvalidPrice(f"These {field} are not what a price list can hold.", field=field)
    return None
