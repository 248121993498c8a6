"""Grant, reserve, capture, release: where every credit comes from and goes to, and what a second call does."""

from datetime import timedelta
from uuid import uuid4

import pytest

from shared import ledger
from shared.database import Connection
from shared.errors import (
    HoldExists,
    HoldNotOpen,
    InvalidAmount,
    OverCapture,
    UnknownHold,
)
from tests.ledger.teller import NOON, PRICE, Teller, balance


async def test_a_generation_is_reserved_and_captured(teller: Teller) -> None:
    given = await teller.grant(100)
    assert given.balance == balance(100, 0, 100)
    reservation = await teller.reserve(10)
    assert reservation.outcome == "held"
    assert reservation.balance == balance(90, 10, 100)
    assert reservation.decision.balance == balance(100, 0, 100)
    assert reservation.hold_id is not None
    settled = await teller.capture(reservation.hold_id, 10)
    assert (settled.captured, settled.released, settled.late) == (10, 0, False)
    assert await teller.balance() == balance(90, 0, 90)
    bucket = given.bucket_id
    assert await teller.entries() == [
        ("grant", "issued", "available", 100, bucket),
        ("reserve", "available", "held", 10, bucket),
        ("capture", "held", "revenue", 10, bucket),
    ]


async def test_release_gives_everything_back(teller: Teller) -> None:
    await teller.grant(10)
    settled = await teller.release(await teller.hold(10))
    assert (settled.captured, settled.released) == (0, 10)
    assert await teller.balance() == balance(10, 0, 10)


@pytest.mark.parametrize("amount", [0, 1, 7, 10])
async def test_a_part_is_captured_and_the_rest_returns(teller: Teller, amount: int) -> None:
    await teller.grant(10)
    settled = await teller.capture(await teller.hold(10), amount)
    assert (settled.captured, settled.released) == (amount, 10 - amount)
    assert await teller.balance() == balance(10 - amount, 0, 10 - amount)


async def test_buckets_are_spent_in_order_and_unwound_in_reverse(teller: Teller) -> None:
    paid = (await teller.grant(4, "paid")).bucket_id
    promo = (await teller.grant(4, "promo")).bucket_id
    later = (await teller.grant(4, "paid", lasts=48)).bucket_id
    sooner = (await teller.grant(4, "paid", lasts=24)).bucket_id
    first = (await teller.grant(4, "paid", priority=1)).bucket_id
    seq = await teller.seq()
    hold = await teller.hold(18)
    order = [first, sooner, later, promo, paid]
    assert await teller.entries(since=seq) == [
        ("reserve", "available", "held", 2 if bucket == paid else 4, bucket) for bucket in order
    ]
    assert [bucket.bucket_id for bucket in await ledger.buckets(teller.conn, teller.user_id, teller.now)] == order
    seq = await teller.seq()
    await teller.capture(hold, 6)
    assert await teller.entries(since=seq) == [
        ("capture", "held", "revenue", 4, first),
        ("capture", "held", "revenue", 2, sooner),
        ("release", "held", "available", 2, paid),
        ("release", "held", "available", 4, promo),
        ("release", "held", "available", 4, later),
        ("release", "held", "available", 2, sooner),
    ]


async def test_equal_buckets_are_spent_oldest_first(teller: Teller) -> None:
    younger = (await teller.grant(5, starts=0)).bucket_id
    older = (await teller.grant(5, starts=-1)).bucket_id
    seq = await teller.seq()
    await teller.hold(6)
    assert [entry[4] for entry in await teller.entries(since=seq)] == [older, younger]


async def test_a_free_generation_has_a_hold_and_no_entries(teller: Teller) -> None:
    reservation = await teller.reserve(0)
    assert reservation.outcome == "held"
    assert reservation.decision.verdict == "allow"
    assert reservation.hold_id is not None
    settled = await teller.capture(reservation.hold_id, 0)
    assert (settled.captured, settled.released) == (0, 0)
    assert await teller.entries() == []


async def test_a_hold_ends_once(teller: Teller) -> None:
    await teller.grant(20)
    captured, released = await teller.hold(5), await teller.hold(5)
    await teller.capture(captured, 5)
    await teller.release(released)
    for hold in (captured, released):
        with pytest.raises(HoldNotOpen):
            await teller.capture(hold, 1)
        with pytest.raises(HoldNotOpen):
            await teller.release(hold)
    assert await teller.balance() == balance(15, 0, 15)


async def test_more_than_the_quote_is_never_captured(teller: Teller) -> None:
    await teller.grant(20)
    hold = await teller.hold(5)
    with pytest.raises(OverCapture):
        await teller.capture(hold, 6)
    assert (await teller.balance()).held == 5


async def test_one_generation_has_one_hold(teller: Teller) -> None:
    await teller.grant(20)
    generation_id = uuid4()
    await teller.reserve(5, generation_id=generation_id)
    with pytest.raises(HoldExists):
        await teller.reserve(5, generation_id=generation_id)
    assert (await teller.balance()).held == 5


async def test_a_generation_that_gave_its_hold_back_is_held_again(teller: Teller) -> None:
    await teller.grant(20)
    generation_id = uuid4()
    for _ in range(3):
        held = await teller.reserve(5, generation_id=generation_id)
        assert held.hold_id is not None
        with pytest.raises(HoldExists):
            await teller.reserve(5, generation_id=generation_id)
        await teller.release(held.hold_id)
    rounds = await teller.conn.fetch(
        "SELECT round, state::text FROM credit_holds WHERE generation_id = $1 ORDER BY round", generation_id
    )
    assert [tuple(row) for row in rounds] == [(1, "released"), (2, "released"), (3, "released")]
    assert await teller.balance() == balance(20, 0, 20)


async def test_a_generation_that_was_charged_is_never_held_again(teller: Teller) -> None:
    await teller.grant(20)
    for lasts, hours in ((2, 0), (1, 3)):
        generation_id = uuid4()
        held = await teller.reserve(5, generation_id=generation_id, lasts=lasts)
        assert held.hold_id is not None
        await teller.after(hours).expire()
        await teller.capture(held.hold_id, 5)
        with pytest.raises(HoldExists):
            await teller.reserve(5, generation_id=generation_id)


async def test_a_hold_that_may_be_charged_late_is_still_the_generations_one(teller: Teller) -> None:
    await teller.grant(20)
    generation_id = uuid4()
    held = await teller.reserve(5, generation_id=generation_id)
    assert held.hold_id is not None
    await teller.after(2).expire()
    with pytest.raises(HoldExists):
        await teller.reserve(5, generation_id=generation_id)
    await teller.release(held.hold_id)
    assert (await teller.reserve(5, generation_id=generation_id)).outcome == "held"


async def test_somebody_elses_generation_is_not_held_again(teller: Teller) -> None:
    await teller.grant(20)
    generation_id = uuid4()
    held = await teller.reserve(5, generation_id=generation_id)
    assert held.hold_id is not None
    await teller.release(held.hold_id)
    stranger = await Teller(teller.conn).open()
    await stranger.grant(20)
    with pytest.raises(HoldExists):
        await stranger.reserve(5, generation_id=generation_id)


async def test_a_hold_nobody_made_is_unknown(teller: Teller) -> None:
    with pytest.raises(UnknownHold):
        await teller.capture(uuid4(), 1)
    with pytest.raises(UnknownHold):
        await teller.release(uuid4())


@pytest.mark.parametrize("amount", [-1, 10**12 + 1, 2**63 - 1])
async def test_absurd_amounts_change_nothing(teller: Teller, amount: int) -> None:
    await teller.grant(5)
    hold = await teller.hold(5)
    with pytest.raises(InvalidAmount):
        await teller.reserve(amount)
    with pytest.raises(InvalidAmount):
        await teller.decide(amount)
    with pytest.raises(InvalidAmount):
        await teller.grant(amount)
    with pytest.raises((InvalidAmount, OverCapture)):
        await teller.capture(hold, amount)
    assert await teller.balance() == balance(0, 5, 5)


async def test_a_grant_of_nothing_or_of_the_past_is_refused(teller: Teller) -> None:
    with pytest.raises(InvalidAmount):
        await teller.grant(0)
    with pytest.raises(InvalidAmount):
        await teller.grant(5, lasts=0)
    with pytest.raises(InvalidAmount):
        await teller.grant(5, starts=3, lasts=2)
    with pytest.raises(InvalidAmount):
        await teller.reserve(0, lasts=0)


async def test_strange_names_are_hashed_as_they_are(conn: Connection) -> None:
    for name in ('quote"back\\slash', "tab\tnew\nline\x01\x7f", "straße 日本 🎨", "a|b", "[1, null]"):
        teller = Teller(conn, user_id=name)
        await ledger.grant(conn, user_id=name, key=name, amount=3, kind="paid", source_ref=name, actor=name, now=NOON)
        await teller.capture(await teller.hold(2), 1)


async def test_without_a_given_time_the_database_has_one(teller: Teller) -> None:
    user_id, conn = teller.user_id, teller.conn
    clock = await conn.fetchval("SELECT clock_timestamp()")
    await ledger.grant(conn, user_id=user_id, key="g", amount=5, kind="paid", source_ref="r", actor="t")
    held = await ledger.reserve(
        conn,
        user_id=user_id,
        key="k",
        generation_id=uuid4(),
        amount=5,
        expires_at=clock + timedelta(hours=1),
        price=PRICE,
    )
    assert held.hold_id is not None
    await ledger.release(conn, hold_id=held.hold_id, key="r", reason="test")
    times = [row[0] for row in await conn.fetch("SELECT at FROM credit_entries WHERE user_id = $1", user_id)]
    assert all(clock <= at <= clock + timedelta(minutes=1) for at in times)
    assert len(times) == 3
