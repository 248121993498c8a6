"""A breaker for each endpoint, shared by all workers: it stops what is sent there while it would come back unsent.

| breaker | what is sent | moved on by |
|---|---|---|
| closed | everything | a failure that says all, or several in a row → open |
| open | nothing; jobs wait for it or go to another endpoint | `retry_at` → half_open, when there is work |
| half_open | one generation, by one of all workers | its outcome → closed or open; the worker died: another probe |

Only /run counts: that is what the breaker stops. A failed job says more of its prompt than of its endpoint, and anybody
could send five bad prompts; a slow /status stops nothing. Nothing here burns an attempt of a generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from shared import sql
from shared.database import Connection
from worker.outcomes import NotSent, Sign, Submission, Unknown
from worker.transitions import Endpoint

_SQL = sql.load(__file__)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

FAILURES = 5
"""How many in a row open the breaker …"""
WINDOW = timedelta(seconds=60)
"""… when they come within this."""
PATIENCE = timedelta(seconds=10)
"""How long it stays open; twice as long for every time that the probe fails, up to the longest."""
LONGEST_PATIENCE = timedelta(minutes=2)
_EVENTS = {"open": "endpoint.opened", "half_open": "endpoint.half-opened", "closed": "endpoint.closed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a breaker did."""

    endpoint_id: str
    name: str
    breaker: str
    reason: str | None
    retry_at: datetime | None


def announce(changes: Sequence[Change | None]) -> None:
    """After the commit: one log event for each change."""
    for change in changes:
        if change is not None:
            log.warning(
                _EVENTS[change.breaker],
                endpoint=change.name,
                endpoint_id=change.endpoint_id,
                reason=change.reason,
                retry_at=change.retry_at,
            )


async def register(connection: Connection, endpoints: Sequence[Endpoint]) -> None:
    """See to it that these endpoints have a row."""
    await connection.execute(
        _SQL["register"],
        [endpoint.endpoint_id for endpoint in endpoints],
        [endpoint.name for endpoint in endpoints],
        [endpoint.type.value for endpoint in endpoints],
    )


async def take_probe(
    connection: Connection, endpoint_id: str, *, token: UUID, lease: timedelta, now: datetime | None = None
) -> bool:
    """Take the one probe of an open endpoint whose time has come. False: another worker has it, or it is too early."""
    return await connection.fetchval(_SQL["take_probe"], endpoint_id, token, lease, now) is not None


async def note_probe(
    connection: Connection, endpoint_id: str, *, token: UUID, now: datetime | None = None
) -> Change | None:
    """The probe is about to be sent: the endpoint is half open, for all to see."""
    return await _change(connection, "note_probe", endpoint_id, token, now)


async def return_probe(connection: Connection, endpoint_id: str, *, token: UUID) -> None:
    """The probe was not sent."""
    await connection.execute(_SQL["return_probe"], endpoint_id, token)


def sign(outcome: Submission) -> Sign:
    """What an outcome says of its endpoint. RunPod may refuse one request, and be well."""
    if isinstance(outcome, NotSent):
        return outcome.sign
    return Sign.FAILING if isinstance(outcome, Unknown) else Sign.WELL


async def heed(
    connection: Connection, endpoint_id: str, outcome: Submission, *, token: UUID, now: datetime | None = None
) -> Change | None:
    """What the outcome of a /run does to its endpoint's breaker. `token` is the lease of the claim that sent it."""
    said = sign(outcome)
    if said is Sign.NONE:
        await return_probe(connection, endpoint_id, token=token)
        return None
    if said is Sign.WELL or said is Sign.LIMITED:
        # a 429 is an answer: the allowance sees to it (worker/allowances.py)
        return await _change(connection, "report_success", endpoint_id, token, now)
    reason, patience, threshold = "unknown", PATIENCE, FAILURES
    if isinstance(outcome, NotSent):
        reason = outcome.reason
        if said is Sign.SHUT:
            patience, threshold = outcome.wait, 1
    return await _change(
        connection,
        "report_failure",
        endpoint_id,
        token,
        reason,
        threshold,
        WINDOW,
        patience,
        LONGEST_PATIENCE,
        now,
    )


async def reopenings(
    connection: Connection, endpoint_ids: Sequence[str], *, now: datetime | None = None
) -> dict[str, timedelta]:
    """How long until each of these endpoints takes work; 0: it does."""
    rows = await connection.fetch(_SQL["reopenings"], list(endpoint_ids), now)
    return {row["endpoint_id"]: row["wait"] for row in rows}


async def _change(connection: Connection, statement: str, *arguments: Any) -> Change | None:
    row = await connection.fetchrow(_SQL[statement], *arguments)
    return Change(**row) if row else None
