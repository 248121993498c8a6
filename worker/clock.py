"""What a clock that ran ahead has written is put right, or everything that waits for a moment would stand still.

Every wait of ours is bounded; a moment further ahead than its bound was written by a wrong clock, and is brought back
to the bound. One place for all of them, so that no statement has to doubt what it reads.
"""

from datetime import datetime, timedelta

from shared import sql
from shared.generations import HELD_BACK_DEADLINE, RESERVED_DEADLINE
from worker import breaker, health, sweep
from worker.context import Context
from worker.runpod import LONGEST_WAIT

_SQL = sql.load(__file__)

LAG = timedelta(seconds=10)
"""A transaction that waited for a lock has the time of its beginning; it waited no longer than this."""


async def put_right(context: Context, *, now: datetime | None = None) -> None:
    """Bring every moment that lies too far ahead back to where it may be."""
    lease, grace = context.settings.lease, context.settings.submit_grace
    longest = max(lease, grace, LONGEST_WAIT, breaker.LONGEST_PATIENCE) + LAG
    bounds = {
        "allowances": (LAG, LONGEST_WAIT),
        "breakers": (LAG, breaker.LONGEST_PATIENCE, lease, health.EVERY),
        "workers": (LAG,),
        "generations": (longest,),
        "deadlines": (RESERVED_DEADLINE + LAG, HELD_BACK_DEADLINE + LAG),
        "streams": (longest,),
        "orphans": (LAG, sweep.ORPHAN_LIFETIME),
    }
    async with context.pool.acquire() as connection:
        for statement, most in bounds.items():
            await connection.execute(_SQL[statement], now, *most)
