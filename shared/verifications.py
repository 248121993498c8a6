"""Verifications of the ledger that were made, and making one: `run` keeps its result whatever becomes of it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from shared import sql
from shared.database import UNREACHABLE, Connection, Pool
from shared.findings import Finding
from shared.verify import Tally, verify

_SQL = sql.load(__file__)

KEPT_FINDINGS = 20
LEASE = timedelta(minutes=5)
"""Whoever has not been heard of for so long is not at it any more."""
_RENEW_SECONDS = 60
STOPPED = "stopped"
"""The error of a run whose process was told to stop; another one takes its place at once."""
MARGIN = timedelta(minutes=5)
"""How much further back than the last clean run a scheduled one looks: entries are dated before they are committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of one.

    Attributes:
        user_id, since: what it was of; both None: of everybody.
        findings: how many rows disagree; `first_findings` are the first KEPT_FINDINGS of them, as JSON.
        error: why it did not get to its end; what was not reached is unknown.
    """

    user_id: str | None
    since: datetime | None
    started_at: datetime
    finished_at: datetime
    accounts: int
    entries: int
    findings: int
    first_findings: list[dict[str, Any]]
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether everything was looked at, and nothing found."""
        return self.error is None and self.findings == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A run that has begun. `since` None with `user_id` None: of everybody."""

    run_id: UUID
    started_at: datetime
    user_id: str | None = None
    since: datetime | None = None


async def claim(pool: Pool, *, every: timedelta, whole_every: timedelta) -> Claim | None:
    """Begin the scheduled run that is due, for this worker alone; None when none is, or another worker is at it."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["abandon"])
        row = await connection.fetchrow(_SQL["claim"], every, whole_every, MARGIN, LEASE)
    return None if row is None else Claim(**row)


async def run(
    pool: Pool,
    *,
    user_id: str | None = None,
    since: datetime | None = None,
    found: Callable[[Finding], None] | None = None,
    claimed: Claim | None = None,
) -> Verification:
    """Verify everybody, one account, or the accounts that have an entry since then; keep the result and return it.

    `found` is called with each finding as it is made. `claimed` is a scheduled run, whose scope counts.

    Raises:
        whatever kept it from its end; what is kept says so, too.
    """
    begun = claimed or await _begin(pool, user_id, since)
    progress = _Progress()
    keeping = asyncio.create_task(_keep(pool, begun, progress))
    try:
        async with pool.acquire() as connection:
            async for finding in verify(connection, user_id=begun.user_id, since=begun.since, tally=progress.tally):
                progress.add(finding)
                if found is not None:
                    found(finding)
    except BaseException as failure:
        stopped = isinstance(failure, asyncio.CancelledError)
        with contextlib.suppress(*UNREACHABLE):
            await _finish(pool, begun, progress, error=STOPPED if stopped else f"{type(failure).__name__}: {failure}")
        raise
    finally:
        keeping.cancel()
    return await _finish(pool, begun, progress, error=None)


async def latest(connection: Connection) -> Verification | None:
    """The last one of everybody or by the clock; None when there has been none.

    Scheduled ones reach back to the last clean one: what was found before is found again until it is put right.
    """
    row = await connection.fetchrow(_SQL["latest"])
    return None if row is None else _verification(row)


@dataclass(slots=True)
class _Progress:
    tally: Tally = field(default_factory=Tally)
    findings: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        self.findings += 1
        if len(self.first) < KEPT_FINDINGS:
            self.first.append(finding.as_json())


async def _begin(pool: Pool, user_id: str | None, since: datetime | None) -> Claim:
    [row] = await pool.fetch(_SQL["begin"], user_id, since, LEASE)
    return Claim(**row, user_id=user_id, since=since)


async def _keep(pool: Pool, begun: Claim, progress: _Progress) -> None:
    """Say that somebody is still at it, until cancelled."""
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        with contextlib.suppress(*UNREACHABLE):
            await pool.execute(
                _SQL["renew"], begun.run_id, LEASE, progress.tally.accounts, progress.tally.entries, progress.findings
            )


async def _finish(pool: Pool, begun: Claim, progress: _Progress, *, error: str | None) -> Verification:
    tally, first = progress.tally, orjson.dumps(progress.first).decode()
    [row] = await pool.fetch(
        _SQL["finish"], begun.run_id, tally.accounts, tally.entries, progress.findings, first, error
    )
    return _verification(row)


def _verification(row: Any) -> Verification:
    return Verification(**{**row, "first_findings": orjson.loads(row["first_findings"])})
