"""A ledger that was at work when …_twin_ledger_acts came: what people did before is sealed as it was told."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from migrations.runner import migrate
from shared.database import Connection, prepare_connection
from shared.findings import Finding
from shared.schema import known_migrations
from shared.verify import verify
from tests.ledger.forgeries import allow_everything
from tests.ledger.invariants import LONG_AGO
from tests.ledger.teller import Teller

ACTS = "20261127000500"
LIGHTER = "20261127000700"
"""Until it came, reserves answered with a date when their hold ends."""


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[Connection]:
    """A database as the version before it had it."""
    opened = await asyncpg.connect(empty_database_url)
    await prepare_connection(opened)
    await migrate(opened, [each for each in known_migrations() if each.version < ACTS])
    yield opened
    await opened.close()


@pytest.fixture
async def teller(connection: Connection) -> Teller:
    """Somebody who had other terms each hour, and credits on all of them, before and after it came."""
    teller = Teller(connection)
    plan = await teller.plan(daily_credits=4, overdraft_limit=2)
    await teller.open(plan=plan, time_zone="Asia/Tokyo")
    await teller.look()
    await teller.hold(6, lasts=100)
    await teller.after(1).set_terms(overdraft_limit=20)
    await teller.hold(15, lasts=100)
    await teller.after(1).set_terms(overdraft_limit=3)
    await teller.after(1).move_to("Pacific/Pago_Pago")
    await teller.look()
    await teller.after(24).plan(name=plan, daily_credits=7)

    await migrate(connection, [each for each in known_migrations() if each.version < LIGHTER])
    await teller.hold(1, lasts=100)
    await migrate(connection)
    await teller.hold(1, lasts=100)

    await teller.look()
    await teller.after(1).set_terms(overdraft_limit=None)
    return teller


async def _found(connection: Connection) -> list[Finding]:
    return [finding async for finding in verify(connection, now=LONG_AGO, alone=True)]


async def test_what_was_told_before_is_whole(teller: Teller) -> None:
    assert await _found(teller.conn) == []
    chain = await teller.conn.fetch(
        "SELECT kind, act_seq, after_seq FROM credit_operations WHERE scope = $1 AND act_seq > 0 ORDER BY 2",
        teller.user_id,
    )
    assert [tuple(row) for row in chain] == [
        ("open", 1, 0),
        ("set-terms", 2, 3),
        ("set-terms", 3, 4),
        ("set-time-zone", 4, 4),
        ("set-terms", 5, await teller.seq()),
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("DELETE FROM credit_operations WHERE scope = $1 AND act_seq = 2", "operation-missing"),
        ("UPDATE credit_operations SET actor = 'x' WHERE scope = $1 AND act_seq = 3", "operation-changed"),
        ("DELETE FROM credit_acts WHERE scope = $1", "operation-missing"),
        ("DELETE FROM credit_operations WHERE scope = $1 AND act_seq = 5", "operation-missing"),
    ],
)
async def test_what_was_told_before_cannot_be_changed(teller: Teller, change: str, named: str) -> None:
    async with teller.conn.transaction():
        await allow_everything(teller.conn)
        await teller.conn.execute(change, teller.user_id)
    assert named in {finding.kind for finding in await _found(teller.conn)}
