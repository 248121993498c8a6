"""Truths that are checked while the system runs: each audit is a query that must find no rows."""

import structlog

from shared import metrics, sql
from worker.context import Context

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

AUDITS = sql.load(__file__)
_SAMPLE = 20


async def audit_once(context: Context) -> dict[str, int]:
    """Run every audit; returns how many rows each found, bounded, and says so in the log and the metrics."""
    found: dict[str, int] = {}
    async with context.pool.acquire() as connection:
        for name, statement in AUDITS.items():
            rows = await connection.fetch(statement, _SAMPLE)
            found[name] = len(rows)
            metrics.AUDIT_FAILURES.labels(name).set(len(rows))
            if rows:
                log.error("audit.failed", audit=name, rows=len(rows), first=[str(row[0]) for row in rows[:5]])
    return found
