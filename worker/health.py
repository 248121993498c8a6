"""How each endpoint says it is: GET /health, asked by one of all workers every so often and kept for ops to see.

Nothing is decided by it: it does not show a paused endpoint, and one without workers may be about to have some
(runpod.md 1.3). When RunPod does not say, the last answer stays, with its time.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from shared import sql
from worker.context import Context
from worker.rounds import side_by_side

_SQL = sql.load(__file__)

EVERY = timedelta(seconds=30)
_PARTS = ("jobs", "workers")


async def sample(context: Context, *, every: timedelta = EVERY) -> int:
    """Ask the endpoints whose time has come; returns how many answered."""
    ids = [profile.endpoint.endpoint_id for profile in context.endpoints]
    async with context.pool.acquire() as connection:
        await context.router.register(connection)
        due = [row["endpoint_id"] for row in await connection.fetch(_SQL["claim_samples"], ids, every)]

    async def ask(endpoint_id: str) -> bool:
        said = await context.runpod.health(endpoint_id)
        if said is None:
            return False
        async with context.pool.acquire() as connection:
            await connection.execute(_SQL["keep_sample"], endpoint_id, counted(said))
        return True

    return sum(await side_by_side(due, ask))


def counted(said: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The counts of an answer, as far as they are counts."""
    return {
        part: {
            name: count
            for name, count in said[part].items()
            if isinstance(count, int) and not isinstance(count, bool) and count >= 0
        }
        for part in _PARTS
        if isinstance(said.get(part), dict)
    }
