"""Backends killed at random moments of the money, thousands of times with `make chaos`: no hold leaks.

What a killed caller had committed stands, what it had not is gone, and what it left open runs out by itself.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from shared import ledger
from shared.database import UNREACHABLE, Connection, prepare_connection
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.teller import Teller

SEED = int(os.environ.get("TWIN_CHAOS_SEED", "20261124"))
KILLS = int(os.environ.get("TWIN_CHAOS_BACKEND_KILLS", "120"))
LANES = 4
GRANTED = 1_000_000
LONGEST_LIFE_SECONDS = 0.1


class Killer:
    """Ends other people's backends, until it has ended enough of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._busy = asyncio.Lock()
        self.kills = 0

    async def strike(self, pid: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._busy:
            self.kills += await self._connection.fetchval("SELECT pg_terminate_backend($1)::int", pid)


async def _live(teller: Teller, dice: random.Random) -> None:
    """Hold, charge and give back without end: somebody ends it."""
    while True:
        async with teller.conn.transaction():
            hold = await teller.hold(dice.randint(1, 9))
        match dice.choice(("capture", "release", "forget")):
            case "capture":
                async with teller.conn.transaction():
                    await teller.capture(hold, 1)
            case "release":
                async with teller.conn.transaction():
                    await teller.release(hold)


async def _lane(database_url: str, user_id: str, killer: Killer, dice: random.Random) -> None:
    while killer.kills < KILLS:
        connection = await asyncpg.connect(database_url)
        await prepare_connection(connection)
        teller = Teller(connection, user_id=user_id)
        await teller.hold(1)  # a fresh backend is slow at first, and would die before it did anything
        doom = asyncio.create_task(killer.strike(connection.get_server_pid(), dice.uniform(0, LONGEST_LIFE_SECONDS)))
        with pytest.raises(UNREACHABLE):
            await _live(teller, dice)
        await doom
        connection.terminate()


@asynccontextmanager
async def _connected(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        await prepare_connection(connection)
        yield connection
    finally:
        await connection.close()


@pytest.mark.timeout(60 + KILLS)
async def test_no_hold_leaks(database_url: str) -> None:
    dice = random.Random(SEED)
    async with _connected(database_url) as watch, _connected(database_url) as deadly:
        people = [Teller(watch) for _ in range(2)]
        for person in people:
            await person.grant(GRANTED)
        killer = Killer(deadly)
        async with asyncio.TaskGroup() as lanes:
            for number in range(LANES):
                user_id = people[number % len(people)].user_id
                lanes.create_task(_lane(database_url, user_id, killer, random.Random(dice.random())))
        assert killer.kills >= KILLS
        left_behind = "SELECT count(*) FROM credit_holds WHERE state = 'open'"
        assert await watch.fetchval(left_behind), "nobody was killed with a hold in hand"
        for person in people:
            await person.after(2).expire()
            captured = await watch.fetchval(
                "SELECT sum(captured)::bigint FROM credit_holds WHERE user_id = $1", person.user_id
            )
            assert captured, "nobody lived long enough to be charged"
            assert await person.balance() == ledger.Balance(
                available=GRANTED - captured, held=0, posted=GRANTED - captured, overdraft_used=0, overdraft_limit=0
            )
        assert await watch.fetchval(left_behind) == 0
        await assert_ledger_clean(watch)
