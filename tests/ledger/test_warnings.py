"""One warning for each threshold that is crossed, not one for each job; told again after credits came in."""

import asyncio

from shared.database import Connection, Pool
from tests.ledger.teller import Teller


async def soft(conn: Connection, amount: int, *, limit: int = 10) -> Teller:
    teller = await Teller(conn).open(overdraft_limit=limit, low_balance_threshold=5)
    await teller.grant(amount, ref="first")
    return teller


async def test_each_threshold_is_told_once(conn: Connection) -> None:
    teller = await soft(conn, 10)
    told = []
    for _ in range(14):
        assert (await teller.reserve(1)).outcome == "held"
        told.append(len(await teller.warnings()))
    # Less than 5 are left after the sixth job; the eleventh draws the overdraft.
    assert told == [0] * 5 + [1] * 5 + [2] * 4
    assert await teller.warnings() == [("low-balance", 4), ("overdraft", 0)]


async def test_two_thresholds_at_once_are_two_warnings(conn: Connection) -> None:
    teller = await soft(conn, 10)
    await teller.hold(12)
    assert await teller.warnings() == [("low-balance", 0), ("overdraft", 0)]


async def test_nobody_is_told_who_has_enough_or_was_refused(conn: Connection) -> None:
    teller = await soft(conn, 10)
    await teller.hold(5)
    assert (await teller.reserve(100)).outcome == "denied"
    await teller.decide(5)
    assert await teller.warnings() == []


async def test_a_retry_is_not_told_again(conn: Connection) -> None:
    teller = await soft(conn, 10)
    first = await teller.reserve(6, key="k", generation_id=(generation := (await teller.hold(0))))
    again = await teller.reserve(6, key="k", generation_id=generation)
    assert (first.replayed, again.replayed) == (False, True)
    assert len(await teller.warnings()) == 1


async def test_credits_that_come_back_are_not_credits_that_come_in(conn: Connection) -> None:
    teller = await soft(conn, 10)
    for _ in range(3):
        await teller.release(await teller.hold(8))
    assert len(await teller.warnings()) == 1


async def test_credits_that_came_in_a_moment_ago_do_not_come_in_again_with_what_lapses(conn: Connection) -> None:
    """To the microsecond: what comes back from the hold has expired, so the clock is obeyed once more."""
    teller = await Teller(conn).open(overdraft_limit=20, low_balance_threshold=5)
    await teller.grant(9, lasts=1)
    await teller.hold(20)
    told = [("low-balance", 0), ("overdraft", 0)]
    assert await teller.warnings() == told
    await teller.after(2).grant(6)
    assert (await teller.expire()).holds == 1
    await teller.hold(7)
    assert await teller.warnings() == told


async def test_who_was_told_of_debt_is_not_told_again_by_way_of_a_low_balance(conn: Connection) -> None:
    teller = await soft(conn, 10)
    await teller.release(await teller.hold(12))
    await teller.hold(6)
    await teller.hold(5)
    assert await teller.warnings() == [("low-balance", 0), ("overdraft", 0)]


async def test_after_credits_came_in_it_is_told_again(conn: Connection) -> None:
    teller = await soft(conn, 10)
    await teller.hold(8)
    await teller.grant(1)
    await teller.hold(1)
    assert len(await teller.warnings()) == 1
    await teller.grant(10)
    await teller.hold(9)
    assert await teller.warnings() == [("low-balance", 2), ("low-balance", 3)]
    await teller.adjust(20)
    await teller.hold(20)
    assert len(await teller.warnings()) == 3


async def test_credits_that_become_effective_have_come_in(conn: Connection) -> None:
    teller = await soft(conn, 10)
    await teller.grant(20, starts=1)
    await teller.hold(8)
    await teller.after(1).hold(1)
    assert len(await teller.warnings()) == 1
    await teller.hold(20)
    assert await teller.warnings() == [("low-balance", 2), ("low-balance", 1)]


async def test_credits_that_return_only_to_expire_have_not_come_in(conn: Connection) -> None:
    teller = await Teller(conn).open(low_balance_threshold=5)
    await teller.grant(5, lasts=1)
    await teller.grant(7)
    over = await teller.hold(5, lasts=9)
    rest = await teller.hold(5, lasts=9)
    await teller.release(rest)
    await teller.after(2).release(over)
    await teller.hold(7)
    assert await teller.warnings() == [("low-balance", 2)]


async def test_credits_that_return_only_to_expire_bring_in_no_others_once_more(conn: Connection) -> None:
    """Their bucket ended long before they return, and others have become effective, and were told of, in between."""
    teller = await Teller(conn).open(low_balance_threshold=5)
    await teller.grant(5, lasts=1)
    await teller.grant(7, starts=2)
    over = await teller.hold(5, lasts=9)
    await teller.release(await teller.after(3).hold(5, lasts=9))
    told = [("low-balance", 0), ("low-balance", 2)]
    assert await teller.warnings() == told
    await teller.after(1).release(over)
    await teller.hold(3)
    assert await teller.warnings() == told


async def test_the_days_credits_have_come_in(conn: Connection) -> None:
    teller = Teller(conn)
    plan = await teller.plan(daily_credits=10, low_balance_threshold=5)
    await teller.open(plan=plan)
    for _ in range(2):
        await teller.hold(6)
        await teller.hold(1)
        teller.after(24)
    assert await teller.warnings() == [("low-balance", 4), ("low-balance", 4)]


async def test_corrections_warn_too(conn: Connection) -> None:
    taken, reversed_, ended = [await soft(conn, 10) for _ in range(3)]
    await taken.adjust(-6)
    await reversed_.reverse_grant("first", 6)
    await ended.after(1).reverse_grant("first")
    assert [await teller.warnings() for teller in (taken, reversed_, ended)] == [
        [("low-balance", 4)],
        [("low-balance", 4)],
        [("low-balance", 0)],
    ]


async def test_corrections_warn_once(conn: Connection) -> None:
    taken, reversed_ = [await soft(conn, 10) for _ in range(2)]
    for amount in (-6, -1):
        await taken.adjust(amount)
    await reversed_.grant(1, ref="second")
    await reversed_.reverse_grant("first", 7)
    await reversed_.reverse_grant("second")
    assert [await teller.warnings() for teller in (taken, reversed_)] == [[("low-balance", 4)], [("low-balance", 4)]]


async def test_a_late_charge_warns(conn: Connection) -> None:
    teller = await soft(conn, 8, limit=0)
    hold = await teller.hold(3)
    await teller.after(2).expire()
    await teller.hold(3)
    await teller.capture(hold, 3)
    assert await teller.warnings() == [("low-balance", 2)]


async def test_many_jobs_at_once_are_told_once(pool: Pool, conn: Connection) -> None:
    teller = await soft(conn, 10)

    async def use() -> None:
        async with pool.acquire() as connection:
            await Teller(connection, teller.user_id).reserve(1)

    await asyncio.gather(*(use() for _ in range(20)))
    assert [code for code, _ in await teller.warnings()] == ["low-balance", "overdraft"]
