"""Adjustments and reversals: once, bounded, debt first, and with who and why on record."""

from typing import Any
from uuid import uuid4

import pytest

from shared import corrections
from shared.database import Connection
from shared.errors import (
    GrantConflict,
    InvalidAmount,
    KeyReused,
    NotCharged,
    NotEnough,
    OverCapture,
    UnknownGrant,
    UnknownHold,
)
from tests.ledger.teller import Teller, balance


async def state(teller: Teller) -> tuple[Any, ...]:
    """Everything that must be as it was after a refusal."""
    operations = "SELECT count(*) FROM credit_operations WHERE scope = $1"
    return (
        await teller.balance(),
        await teller.entries(),
        await teller.warnings(),
        await teller.conn.fetchval(operations, teller.user_id),
    )


async def test_an_adjustment_gives_and_takes(teller: Teller) -> None:
    up = await teller.adjust(10, key="up")
    assert (up.amount, up.replayed, up.balance.available) == (10, False, 10)
    down = await teller.adjust(-4, key="down")
    assert (down.amount, down.balance.available) == (-4, 6)
    assert [entry[:4] for entry in await teller.entries()] == [
        ("adjust", "issued", "available", 10),
        ("adjust", "available", "reversed", 4),
    ]


async def test_what_is_given_may_expire(teller: Teller) -> None:
    await teller.adjust(10, lasts=1)
    assert (await teller.after(1).balance()).available == 0
    for amount, lasts in ((-1, 1), (1, 0), (1, -1)):
        with pytest.raises(InvalidAmount):
            await teller.adjust(amount, lasts=lasts)


async def test_what_is_taken_goes_in_spending_order_or_not_at_all(teller: Teller) -> None:
    await teller.grant(5)
    await teller.grant(5, "promo")
    await teller.grant(5, starts=1)
    await teller.hold(1)
    before = await state(teller)
    with pytest.raises(NotEnough):
        await teller.adjust(-10)
    assert await state(teller) == before
    seq = await teller.seq()
    await teller.adjust(-9)
    assert [entry[3] for entry in await teller.entries(since=seq)] == [4, 5]
    assert (await teller.balance()).available == 0


async def test_an_adjustment_pays_the_debt_first(teller: Teller) -> None:
    await teller.open(overdraft_limit=9)
    await teller.capture(await teller.hold(6), 6)
    assert (await teller.adjust(4)).balance.overdraft_used == 2
    assert (await teller.adjust(4)).balance.available == 2


async def test_who_and_why_are_on_record(teller: Teller) -> None:
    await teller.adjust(5, key="k")
    await teller.reverse_grant("k", 2, "adjust")
    hold = await teller.hold(3)
    await teller.capture(hold, 3)
    await teller.reverse_charge(hold)
    rows = await teller.conn.fetch(
        """SELECT o.kind, o.actor, o.detail, e.actor AS entry_actor, e.detail ->> 'reason' AS entry_reason
           FROM credit_operations o JOIN credit_entries e ON e.txn_id = (o.outcome ->> 'txn_id')::uuid
           WHERE o.scope = $1 AND o.kind IN ('adjust', 'reverse') ORDER BY e.seq""",
        teller.user_id,
    )
    assert [tuple(row) for row in rows] == [
        (kind, "admin", {"reason": reason}, "admin", reason)
        for kind, reason in (("adjust", "put right"), ("reverse", "refunded"), ("reverse", "bad work"))
    ]


async def test_without_a_reason_nothing_is_put_right(teller: Teller) -> None:
    await teller.grant(5, ref="r")
    hold = await teller.hold(1)
    await teller.capture(hold, 1)
    before = await state(teller)
    for attempt in (
        teller.reverse_grant("r", reason=""),
        teller.reverse_charge(hold, reason=""),
        teller.conn.fetchval("SELECT ledger_adjust($1, 'k', 1, '', 'admin')", teller.user_id),
    ):
        with pytest.raises(Exception, match="has a reason"):
            await attempt
    assert await state(teller) == before


@pytest.mark.parametrize("amount", [0, 10**12 + 1, -(10**12) - 1, 2**63 - 1, -(2**63)])
async def test_absurd_adjustments_change_nothing(teller: Teller, amount: int) -> None:
    await teller.grant(5)
    before = await state(teller)
    with pytest.raises(InvalidAmount):
        await teller.adjust(amount)
    assert await state(teller) == before


async def test_keys_of_every_length_and_none(teller: Teller) -> None:
    await teller.adjust(5, key="k" * 255)
    await teller.adjust(-5, key="l" * 255)
    await teller.reverse_grant("k" * 255, kind="adjust")
    for key in ("k" * 256, "l" * 256):
        with pytest.raises(InvalidAmount):
            await teller.adjust(5, key=key)


async def test_the_same_key_is_the_same_adjustment(teller: Teller) -> None:
    first = await teller.adjust(5, key="k")
    again = await teller.after(1).adjust(5, key="k")
    assert (again.replayed, again.balance) == (True, first.balance)
    for amount, lasts in ((6, None), (-5, None), (5, 1)):
        with pytest.raises(KeyReused):
            await teller.adjust(amount, key="k", lasts=lasts)
    await teller.grant(5, "adjust", ref="by hand")
    with pytest.raises(GrantConflict):
        await teller.adjust(5, key="by hand")
    assert (await teller.balance()).available == 10


async def test_a_grant_is_taken_back_as_far_as_it_is_left(teller: Teller) -> None:
    await teller.grant(10, ref="r")
    await teller.capture(await teller.hold(4), 4)
    taken = await teller.reverse_grant("r")
    assert (taken.amount, taken.spent, taken.balance.posted) == (-6, 4, 0)
    assert (await teller.entries())[-1][:4] == ("reverse", "available", "reversed", 6)
    again = await teller.reverse_grant("r")
    assert (again.replayed, again.amount) == (True, -6)
    for amount, reason in ((1, "refunded"), (None, "another reason")):
        with pytest.raises(KeyReused):
            await teller.reverse_grant("r", amount, reason=reason)


async def test_a_part_of_a_grant_is_taken_back_once(teller: Teller) -> None:
    await teller.grant(10, ref="r")
    hold = await teller.hold(5)
    assert (await teller.reverse_grant("r", 3)).balance.available == 2
    await teller.release(hold)
    assert (await teller.balance()).available == 7
    with pytest.raises(KeyReused):
        await teller.reverse_grant("r", 4)
    assert (await teller.balance()).posted == 7


async def test_never_more_than_the_grant_gave(teller: Teller) -> None:
    await teller.grant(10, ref="r")
    await teller.grant(10)
    for amount in (0, -1, 11, 2**63 - 1):
        with pytest.raises(InvalidAmount):
            await teller.reverse_grant("r", amount)
    assert (await teller.reverse_grant("r", 10)).balance.available == 10


async def test_what_running_work_gives_back_to_a_reversed_grant_expires_with_it(teller: Teller) -> None:
    bucket = (await teller.grant(10, ref="r")).bucket_id
    hold = await teller.hold(10)
    taken = await teller.after(0.5).reverse_grant("r")
    assert (taken.amount, taken.spent, taken.balance.held) == (0, 0, 10)
    seq = await teller.seq()
    settled = await teller.capture(hold, 3)
    assert (settled.captured, (await teller.balance()).posted) == (3, 0)
    assert (await teller.entries(since=seq))[1:] == [
        ("release", "held", "available", 7, bucket),
        ("expire", "available", "expired", 7, bucket),
    ]
    same = "SELECT count(DISTINCT txn_id) FROM credit_entries WHERE user_id = $1 AND seq > $2"
    assert await teller.conn.fetchval(same, teller.user_id, seq) == 1


async def test_a_grant_that_is_over_or_spent_or_still_to_come_can_be_reversed(teller: Teller) -> None:
    await teller.grant(10, ref="over", lasts=1)
    await teller.grant(10, ref="to come", starts=9)
    teller.after(2)
    assert (await teller.reverse_grant("over")).amount == 0
    assert (await teller.reverse_grant("to come")).amount == -10
    await teller.grant(10, ref="spent")
    await teller.capture(await teller.hold(10), 10)
    spent = await teller.reverse_grant("spent")
    assert (spent.amount, spent.spent) == (0, 10)
    assert (await teller.after(20).balance()).posted == 0


async def test_a_grant_nobody_gave_is_unknown(teller: Teller) -> None:
    await teller.grant(10, ref="r")
    with pytest.raises(UnknownGrant):
        await teller.reverse_grant("s")
    with pytest.raises(UnknownGrant):
        await teller.reverse_grant("r", kind="promo")
    with pytest.raises(UnknownGrant):
        await Teller(teller.conn).reverse_grant("r")


async def test_a_charge_is_given_back_once_and_pays_debt_first(teller: Teller) -> None:
    await teller.open(overdraft_limit=9)
    await teller.grant(4)
    hold = await teller.hold(10)
    await teller.capture(hold, 8)
    given = await teller.reverse_charge(hold, 5)
    assert (given.amount, given.balance.available, given.balance.overdraft_used) == (5, 1, 0)
    assert [entry[:4] for entry in await teller.entries()][-2:] == [
        ("reverse", "revenue", "available", 5),
        ("repay", "available", "overdraft", 4),
    ]
    assert (await teller.reverse_charge(hold, 5)).replayed
    with pytest.raises(KeyReused):
        await teller.reverse_charge(hold)
    assert (await teller.after(24 * 400).balance()).available == 1
    row = await teller.conn.fetchrow("SELECT state::text, captured FROM credit_holds WHERE hold_id = $1", hold)
    assert row is not None
    assert tuple(row) == ("captured", 8)


async def test_never_more_than_was_charged(teller: Teller) -> None:
    await teller.grant(20)
    hold, free, back = await teller.hold(10), await teller.hold(0), await teller.hold(5)
    with pytest.raises(NotCharged):
        await teller.reverse_charge(hold)
    await teller.capture(hold, 6)
    await teller.capture(free, 0)
    await teller.release(back)
    with pytest.raises(OverCapture):
        await teller.reverse_charge(hold, 7)
    for amount in (0, -1):
        with pytest.raises(InvalidAmount):
            await teller.reverse_charge(hold, amount)
    for nothing in (free, back):
        with pytest.raises(NotCharged):
            await teller.reverse_charge(nothing)
    with pytest.raises(UnknownHold):
        await teller.reverse_charge(uuid4())
    assert (await teller.reverse_charge(hold)).balance.available == 20


async def test_debt_beside_credits_is_paid_before_they_are_taken(teller: Teller) -> None:
    """A clock that ran ahead had put them into the future, so that nothing tells when they come."""
    await teller.open(overdraft_limit=5)
    await teller.after(1).grant(10)
    await teller.after(-1).capture(await teller.hold(5), 5)
    teller.after(1)
    with pytest.raises(NotEnough):
        await teller.adjust(-10)
    await teller.adjust(-5)
    assert await teller.balance() == balance(0, 0, 0, limit=5)


async def test_a_late_charge_can_be_given_back(teller: Teller) -> None:
    hold = await (await teller.open(overdraft_limit=5)).hold(5)
    await teller.after(2).expire()
    await teller.capture(hold, 3)
    given = await teller.reverse_charge(hold)
    assert (given.amount, given.balance.available, given.balance.overdraft_used) == (3, 0, 0)


async def test_a_correction_may_be_corrected(conn: Connection) -> None:
    teller = Teller(conn)
    await teller.grant(5)
    hold = await teller.hold(5)
    await teller.capture(hold, 5)
    await teller.reverse_charge(hold)
    assert (await teller.reverse_grant(f"reverse:{hold}", kind="adjust")).balance.available == 0


async def test_another_reason_is_another_adjustment(teller: Teller) -> None:
    terms: dict[str, Any] = {"user_id": teller.user_id, "key": "k", "amount": 5, "actor": "admin", "now": teller.now}
    await corrections.adjust(teller.conn, reason="a gift", **terms)
    with pytest.raises(KeyReused):
        await corrections.adjust(teller.conn, reason="a mistake", **terms)


async def test_what_the_clock_has_done_is_written_down_before_anything_is_taken(teller: Teller) -> None:
    old = (await teller.grant(10, lasts=1)).bucket_id
    new = (await teller.grant(10)).bucket_id
    seq = await teller.seq()
    await teller.after(2).adjust(-3)
    assert await teller.entries(since=seq) == [
        ("expire", "available", "expired", 10, old),
        ("adjust", "available", "reversed", 3, new),
    ]


async def test_the_sweep_hears_of_the_end_of_a_grant_that_was_taken_back(teller: Teller) -> None:
    """Part of it is held; whatever that becomes, no bucket may end before the account's due time."""
    await teller.grant(10, ref="r")
    await teller.hold(4)
    await teller.after(0.5).reverse_grant("r")
    due_at = await teller.conn.fetchval("SELECT due_at FROM user_billing WHERE user_id = $1", teller.user_id)
    assert due_at == teller.now
