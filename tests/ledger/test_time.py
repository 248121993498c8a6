"""Credits and holds that run out, credits that are yet to come, and results that come late."""

import pytest

from shared import ledger
from shared.errors import HoldNotOpen, OverCapture
from tests.ledger.teller import Teller


async def test_expired_credits_cannot_be_seen_or_spent_before_any_sweep(teller: Teller) -> None:
    bucket = (await teller.grant(10, lasts=1)).bucket_id
    assert (await teller.balance()).available == 10
    teller.after(1)
    looked = await teller.balance()
    assert (looked.available, looked.posted) == (0, 0)
    assert await ledger.buckets(teller.conn, teller.user_id, teller.now) == []
    denied = await teller.reserve(1)
    assert denied.outcome == "denied"
    assert denied.balance == looked
    assert (await teller.entries())[-1] == ("expire", "available", "expired", 10, bucket)


async def test_credits_are_there_until_the_last_moment(teller: Teller) -> None:
    await teller.grant(10, lasts=1)
    teller.after(0.999)
    assert (await teller.reserve(10)).outcome == "held"


async def test_credits_to_come_are_posted_and_not_available(teller: Teller) -> None:
    given = await teller.grant(10, starts=1)
    assert (given.balance.available, given.balance.posted) == (0, 10)
    assert (await teller.reserve(1)).outcome == "denied"
    assert [bucket.remaining for bucket in await ledger.buckets(teller.conn, teller.user_id, teller.now)] == [10]
    teller.after(1)
    assert (await teller.balance()).available == 10
    assert (await teller.reserve(10)).outcome == "held"


async def test_a_held_credit_cannot_expire(teller: Teller) -> None:
    await teller.grant(10, lasts=1)
    hold = await teller.hold(6, lasts=5)
    teller.after(2)
    assert (await teller.expire()) == ledger.Expired(accounts=1, holds=0, credits=4)
    assert (await teller.balance()).held == 6
    assert (await teller.capture(hold, 6)).captured == 6


@pytest.mark.parametrize("swept", [False, True])
async def test_released_after_its_expiry_it_returns_and_expires_at_once(teller: Teller, swept: bool) -> None:
    bucket = (await teller.grant(10, lasts=1)).bucket_id
    hold = await teller.hold(10, lasts=5)
    teller.after(2)
    if swept:
        await teller.expire()
    seq = await teller.seq()
    settled = await teller.capture(hold, 3)
    assert (settled.captured, settled.released, (await teller.balance()).posted) == (3, 7, 0)
    assert await teller.entries(since=seq) == [
        ("capture", "held", "revenue", 3, bucket),
        ("release", "held", "available", 7, bucket),
        ("expire", "available", "expired", 7, bucket),
    ]
    transactions = await teller.conn.fetchval(
        "SELECT count(DISTINCT txn_id) FROM credit_entries WHERE user_id = $1 AND seq > $2", teller.user_id, seq
    )
    assert transactions == 1


async def test_a_hold_lapses_by_itself(teller: Teller) -> None:
    bucket = (await teller.grant(10)).bucket_id
    hold = await teller.hold(6)
    assert await teller.expire() == ledger.Expired(accounts=1, holds=0, credits=0)
    teller.after(1)
    assert await teller.expire() == ledger.Expired(accounts=1, holds=1, credits=0)
    assert (await teller.entries())[-1] == ("lapse", "held", "available", 6, bucket)
    assert (await teller.balance()).available == 10
    assert await teller.expire() == ledger.Expired(accounts=1, holds=0, credits=0)
    row = await teller.conn.fetchrow("SELECT state, final FROM credit_holds WHERE hold_id = $1", hold)
    assert row is not None
    assert tuple(row) == ("expired", False)


async def test_a_free_hold_lapses_too(teller: Teller) -> None:
    await teller.hold(0)
    assert (await teller.after(1).expire()).holds == 1


async def test_credits_returned_by_a_lapse_expire_with_their_bucket(teller: Teller) -> None:
    await teller.grant(10, lasts=0.5)
    await teller.hold(6)
    assert await teller.after(1).expire() == ledger.Expired(accounts=1, holds=1, credits=10)
    assert (await teller.balance()).posted == 0


async def test_an_unswept_hold_is_captured_as_if_in_time(teller: Teller) -> None:
    """The credits are still promised to it: nothing late about the money."""
    await teller.grant(10)
    hold = await teller.hold(6)
    teller.after(2)
    assert not (await teller.capture(hold, 6)).late


async def test_a_late_result_is_charged_from_what_there_is(teller: Teller) -> None:
    first = (await teller.grant(4)).bucket_id
    hold = await teller.hold(4)
    await teller.after(2).expire()
    other = (await teller.grant(2, priority=1)).bucket_id
    seq = await teller.seq()
    settled = await teller.capture(hold, 3)
    assert (settled.captured, settled.released, settled.late) == (3, 1, True)
    assert await teller.entries(since=seq) == [
        ("capture", "available", "revenue", 2, other),
        ("capture", "available", "revenue", 1, first),
    ]
    with pytest.raises(HoldNotOpen):
        await teller.capture(hold, 3)
    with pytest.raises(HoldNotOpen):
        await teller.release(hold)


async def test_a_late_result_goes_into_debt_beyond_the_limit(teller: Teller) -> None:
    await teller.open(policy="hard")
    await teller.grant(4)
    hold = await teller.hold(4)
    await teller.after(2).expire()
    await teller.capture(await teller.hold(3), 3)
    settled = await teller.capture(hold, 4)
    assert settled.late
    owed = await teller.balance()
    assert (owed.available, owed.overdraft_used) == (0, 3)
    assert (await teller.reserve(1)).decision.shortfall == 4
    assert (await teller.grant(5)).balance.available == 2


async def test_a_late_result_is_no_more_than_its_quote_and_happens_once(teller: Teller) -> None:
    await teller.grant(10)
    hold = await teller.hold(4)
    await teller.after(2).expire()
    with pytest.raises(OverCapture):
        await teller.capture(hold, 5)
    await teller.capture(hold, 4, key="once")
    assert (await teller.balance()).available == 6
    again = await teller.capture(hold, 4, key="once")
    assert again.replayed
    assert (await teller.balance()).available == 6


async def test_a_released_lapsed_hold_stays_released(teller: Teller) -> None:
    await teller.grant(10)
    hold = await teller.hold(4)
    await teller.after(2).expire()
    seq = await teller.seq()
    settled = await teller.release(hold)
    assert (settled.captured, settled.released, settled.late) == (0, 4, False)
    assert await teller.seq() == seq
    with pytest.raises(HoldNotOpen):
        await teller.capture(hold, 4)


async def test_buckets_run_out_one_after_the_other(teller: Teller) -> None:
    for hours in (3, 1, 1.5, 9):
        await teller.grant(int(10 * hours), lasts=hours)
    assert (await teller.after(1).expire()).credits == 10
    assert (await teller.after(0.5).expire()).credits == 15
    assert (await teller.after(1.5).expire()).credits == 30
    assert (await teller.balance()).available == 90


async def test_a_late_result_finds_expired_credits_gone_and_debt_paid(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    hold = await teller.hold(3)
    debt = await teller.hold(4)
    await teller.after(1).expire()
    await teller.capture(debt, 4)
    gone = (await teller.grant(5, starts=1, lasts=2)).bucket_id
    comes = (await teller.grant(6, starts=3)).bucket_id
    seq = await teller.seq()
    settled = await teller.after(3).capture(hold, 3)
    owed = await teller.balance()
    assert (settled.late, owed.posted, owed.overdraft_used) == (True, 0, 1)
    assert await teller.entries(since=seq) == [
        ("expire", "available", "expired", 5, gone),
        ("repay", "available", "overdraft", 4, comes),
        ("capture", "available", "revenue", 2, comes),
        ("capture", "overdraft", "revenue", 1, None),
    ]


async def test_holds_run_out_one_after_the_other(teller: Teller) -> None:
    await teller.grant(10)
    for hours in (3, 1, 1.5, 9):
        await teller.hold(1, lasts=hours)
    assert (await teller.after(1).expire()).holds == 1
    assert (await teller.after(0.5).expire()).holds == 1
    assert (await teller.after(1.5).expire()).holds == 1
    assert (await teller.balance()).held == 1


async def test_the_sweep_looks_again_when_credits_become_effective(teller: Teller) -> None:
    await teller.open(overdraft_limit=10)
    await teller.grant(5, lasts=1)
    await teller.grant(6, starts=2)
    await teller.capture(await teller.hold(8), 8)
    await teller.after(1.5).expire()
    await ledger.expire_due(teller.conn, limit=1000, now=teller.after(1).now)
    owed = "SELECT overdraft_used FROM user_billing WHERE user_id = $1"
    assert await teller.conn.fetchval(owed, teller.user_id) == 0


async def test_a_look_writes_down_that_credits_ran_out(teller: Teller) -> None:
    bucket = (await teller.grant(10, lasts=1)).bucket_id
    assert not await teller.look()
    assert await teller.after(1).look()
    assert (await teller.entries())[-1] == ("expire", "available", "expired", 10, bucket)
    assert not await teller.look()


async def test_a_look_writes_down_that_a_hold_ran_out(teller: Teller) -> None:
    await teller.grant(10)
    await teller.hold(4, lasts=1)
    assert not await teller.look()
    assert await teller.after(1).look()
    assert (await teller.entries())[-1][:4] == ("lapse", "held", "available", 4)
    assert not await teller.look()
