"""Truths that are checked while the system runs: audits, queries that must find no rows, and the whole ledger."""

import asyncio
import logging

import structlog

from shared import metrics, sql, verifications
from shared.findings import Finding
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


async def verify_ledger(context: Context, stopping: asyncio.Event) -> verifications.Verification | None:
    """Verify the ledger when it is due and no other worker is at it. None: it was not, or had to stop half-way."""
    claimed = await verifications.claim(
        context.pool, every=context.settings.verify, whole_every=context.settings.verify_whole
    )
    if claimed is None:
        return None
    run = asyncio.create_task(verifications.run(context.pool, claimed=claimed, found=_report_finding))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({run, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not run.done():
        run.cancel()
        await asyncio.wait({run})
    if run.cancelled():
        return None
    done = await run
    metrics.VERIFIED_ENTRIES.labels("all" if done.since is None else "since").inc(done.entries)
    log.log(
        logging.INFO if done.ok else logging.ERROR,
        "ledger.verified",
        since=done.since,
        accounts=done.accounts,
        entries=done.entries,
        findings=done.findings,
    )
    return done


def _report_finding(finding: Finding) -> None:
    log.error("ledger.finding", kind=finding.kind, table=finding.table, key=finding.key, meaning=finding.meaning)
