"""The owner of the price list, with short words."""

from typing import Any
from uuid import uuid4

from shared import pricing
from shared.costs import Surcharge
from shared.database import Connection
from shared.generations import Type
from shared.pricing import Version

STEPS = Surcharge(parameter="steps", included=20, step=10, credits=1)

BROKEN_LINKS = """
SELECT p.version FROM price_versions p
LEFT JOIN LATERAL (
    SELECT q.hash FROM price_versions q WHERE q.version < p.version ORDER BY q.version DESC LIMIT 1
) before ON true
WHERE p.previous_hash <> coalesce(before.hash, decode(repeat('00', 32), 'hex'))
    OR p.hash <> price_hash(p.previous_hash, p)
ORDER BY p.version
"""
"""The versions whose link does not hold: what `twin verify` asks."""


async def add(connection: Connection, unit_credits: int = 6, *, key: str | None = None, **terms: Any) -> Version:
    fields: dict[str, Any] = {"generation_type": Type.IMAGE, "actor": "owner", **terms}
    version, _ = await pricing.add(connection, key=key or uuid4().hex, unit_credits=unit_credits, **fields)
    return version
