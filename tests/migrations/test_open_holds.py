"""A ledger that was at work when …_twin_ledger_fewer_rows came: what was promised before is settled after."""

import asyncpg

from migrations.runner import migrate
from shared.database import prepare_connection
from shared.schema import known_migrations
from tests.ledger.invariants import broken_invariants
from tests.ledger.teller import Teller

FEWER_ROWS = "20261127000400"


async def test_a_hold_of_before_is_settled_after(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await prepare_connection(connection)
    await migrate(connection, [each for each in known_migrations() if each.version < FEWER_ROWS])
    teller = await Teller(connection).open(policy="soft", overdraft_limit=10)
    other = await Teller(connection).open()
    for each in (teller, other):
        await each.grant(5, "promo")
        await each.grant(7, "paid")
    beside = await other.hold(6, lasts=100)
    ended = await teller.hold(2)
    await teller.capture(ended, 1)
    over_both_buckets = await teller.hold(8)
    free = await teller.hold(0)
    on_credit = await teller.hold(6)
    runs_out = await other.hold(1)
    gone = await other.hold(1)
    await other.after(2).expire()

    await migrate(connection)

    teller.after(0.5)
    await teller.capture(over_both_buckets, 6)
    await teller.capture(free, 0)
    await teller.release(on_credit)
    await other.capture(gone, 1)
    await other.release(runs_out)
    await other.capture(beside, 6)
    left = [
        (row["kind"], row["remaining"], row["held"])
        for row in await connection.fetch(
            "SELECT kind::text, remaining, held FROM credit_buckets WHERE user_id = $1 ORDER BY 1 DESC", teller.user_id
        )
    ]
    assert left == [("promo", 0, 0), ("paid", 5, 0)]
    assert await broken_invariants(connection) == []
    await connection.close()
