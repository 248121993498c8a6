"""Reserve and capture as fast as some connections can, through `shared/ledger.py`: what the product does to money.

One process on uvloop, as the API is. Each connection has an account of its own and every operation its own commit.
"""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import uvloop

from shared import ledger
from shared.database import prepare_connection
from shared.generations import HOLD_LIFETIME
from tests.bench.people import account

PRICE = {
    "price_version": 1,
    "type": "text",
    "unit_credits": 1,
    "batch_size": 1,
    "multiplier_permille": 1000,
    "total": 1,
}


def pairs_per_second(database_url: str, *, connections: int, seconds: float) -> float:
    """Run for so many seconds; the accounts `account(0)` … have to be there."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(database_url, connections, seconds))


async def _measure(database_url: str, connections: int, seconds: float) -> float:
    opened = [await asyncpg.connect(database_url) for _ in range(connections)]
    for connection in opened:
        await prepare_connection(connection)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_pairs(connection, account(number), until=began + seconds))
            for number, connection in enumerate(opened)
        ]
    took = time.perf_counter() - began
    for connection in opened:
        await connection.close()
    return sum(task.result() for task in tasks) / took


async def _pairs(connection: "asyncpg.Connection[asyncpg.Record]", user_id: str, *, until: float) -> int:
    done = 0
    while time.perf_counter() < until:
        generation_id = uuid4()
        reservation = await ledger.reserve(
            connection,
            user_id=user_id,
            key=f"reserve:{generation_id}",
            generation_id=generation_id,
            amount=1,
            expires_at=datetime.now(UTC) + HOLD_LIFETIME,
            price=PRICE,
        )
        assert reservation.hold_id is not None
        await ledger.capture(connection, hold_id=reservation.hold_id, key=f"settle:{generation_id}", amount=1)
        done += 1
    return done
