"""How much may be asked of each endpoint, by all workers together (runpod.md 1.6): tokens, taken in batches.

Whoever claims work takes the tokens for it first, so that nothing is claimed that may not be asked. What was taken and
not needed goes back. The arithmetic is in `allowances.sql`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from shared import sql
from shared.database import Connection

_SQL = sql.load(__file__)

REFILL = timedelta(milliseconds=100)
"""How soon to ask again when there was less than we wanted; a bucket fills in 0.3 s."""
RECOVERY_PER_SECOND = 0.01
"""After a 429 the pace is whole again in 50 s."""
SLOWEST_PACE = 1 / 16


class Allowances:
    """Every worker's door to the shared buckets."""

    def __init__(self, per_ten_seconds: Mapping[str, int]) -> None:
        """RunPod's allowance for each operation, the same at every endpoint."""
        self._per_ten_seconds = per_ten_seconds
        self._short: set[str] = set()

    async def register(self, connection: Connection, endpoint_ids: Iterable[str]) -> None:
        """See to it that these endpoints have buckets."""
        await connection.execute(_SQL["register"], sorted(set(endpoint_ids)), sorted(self._per_ten_seconds))

    async def take(
        self,
        connection: Connection,
        operation: str,
        wanted: Mapping[str, int],
        *,
        held: timedelta | None = None,
        now: datetime | None = None,
    ) -> dict[str, int]:
        """Take up to so many requests of each endpoint; returns what there was.

        `held`: their tokens were taken so long ago, and waited: they count only if the bucket has not run over since.
        Else what waited would come on top of what others send.
        """
        wanted = {endpoint_id: requests for endpoint_id, requests in wanted.items() if requests > 0}
        if not wanted:
            return {}
        rows = await connection.fetch(
            _SQL["take"],
            list(wanted),
            operation,
            list(wanted.values()),
            self._per_ten_seconds[operation],
            now,
            RECOVERY_PER_SECOND,
            held,
        )
        # a door that RunPod closed does not open by filling up
        if any(row["requests"] < wanted[row["endpoint_id"]] and not row["closed"] for row in rows):
            self._short.add(operation)
        return {row["endpoint_id"]: row["requests"] for row in rows}

    async def give_back(self, connection: Connection, operation: str, unused: Mapping[str, int]) -> None:
        """Return what was taken and not asked for."""
        some = {endpoint_id: requests for endpoint_id, requests in unused.items() if requests > 0}
        if some:
            await connection.execute(
                _SQL["give_back"], list(some), operation, list(some.values()), self._per_ten_seconds[operation]
            )

    async def slow_down(
        self, connection: Connection, operation: str, waits: Mapping[str, timedelta], *, now: datetime | None = None
    ) -> None:
        """RunPod said 429: ask these endpoints nothing of the kind for so long, then half as fast."""
        if waits:
            await connection.execute(
                _SQL["slow_down"],
                list(waits),
                operation,
                list(waits.values()),
                now,
                RECOVERY_PER_SECOND,
                SLOWEST_PACE,
            )

    def again(self, operation: str) -> timedelta | None:
        """How soon to come again, when a take got less than it wanted since this was asked last."""
        if operation not in self._short:
            return None
        self._short.discard(operation)
        return REFILL
