"""A second call: the same key gets the same answer, another request with it none, and a source gives once."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared import ledger
from shared.database import Connection
from shared.errors import (
    GrantConflict,
    InvalidAmount,
    KeyReused,
)
from tests.ledger.teller import Teller, balance


async def test_the_same_key_gets_the_same_answer(teller: Teller) -> None:
    generation_id = uuid4()
    given = await teller.grant(10, key="g", ref="r")
    held = await teller.reserve(4, key="k", generation_id=generation_id)
    assert held.hold_id is not None
    captured = await teller.capture(held.hold_id, 3, key="c")
    unused = await teller.hold(2)
    released = await teller.release(unused, key="r")
    seq = await teller.seq()
    teller.after(0.5)
    again_given = await teller.grant(10, key="g", ref="r")
    again_held = await teller.reserve(4, key="k", generation_id=generation_id)
    again_captured = await teller.capture(held.hold_id, 3, key="c")
    again_released = await teller.release(unused, key="r")
    for first, again in (
        (given, again_given),
        (held, again_held),
        (captured, again_captured),
        (released, again_released),
    ):
        assert not first.replayed
        assert again.replayed
        assert _without_replayed(first) == _without_replayed(again)
    assert await teller.seq() == seq


def _without_replayed(result: Any) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__slots__ if name != "replayed"}


async def test_a_denial_is_replayed_even_when_credits_have_come(teller: Teller) -> None:
    generation_id = uuid4()
    await teller.grant(3)
    denied = await teller.reserve(5, key="k", generation_id=generation_id)
    assert (denied.outcome, denied.hold_id, denied.decision.shortfall) == ("denied", None, 2)
    await teller.grant(100)
    again = await teller.reserve(5, key="k", generation_id=generation_id)
    assert again.replayed
    assert _without_replayed(again) == _without_replayed(denied)
    assert (await teller.reserve(5, key="k2", generation_id=generation_id)).outcome == "held"


async def test_two_people_may_use_the_same_key(conn: Connection) -> None:
    one, two = Teller(conn), Teller(conn)
    assert not (await one.grant(5, key="same", ref="same")).replayed
    assert not (await two.grant(6, key="same", ref="same")).replayed


async def test_the_key_of_a_settlement_is_of_one_hold(teller: Teller) -> None:
    await teller.grant(10)
    one, two, three = [await teller.hold(2) for _ in range(3)]
    await teller.capture(one, 2, key="c")
    await teller.release(two, key="r")
    with pytest.raises(KeyReused):
        await teller.capture(three, 2, key="c")
    with pytest.raises(KeyReused):
        await teller.release(three, key="r")


async def test_a_key_is_refused_for_another_request(teller: Teller) -> None:
    generation_id = uuid4()
    await teller.grant(10, key="g", ref="r")
    held = await teller.reserve(2, key="k", generation_id=generation_id)
    assert held.hold_id is not None
    before = await teller.balance(), await teller.seq()
    with pytest.raises(KeyReused):
        await teller.reserve(3, key="k", generation_id=generation_id)
    with pytest.raises(KeyReused):
        await teller.reserve(2, key="k")
    with pytest.raises(KeyReused):
        await teller.grant(10, key="k")
    with pytest.raises(KeyReused):
        await teller.grant(11, key="g", ref="r")
    with pytest.raises(KeyReused):
        await teller.grant(10, key="g", ref="r", lasts=1)
    with pytest.raises(KeyReused):
        await teller.capture(held.hold_id, 2, key="k")
    await teller.capture(held.hold_id, 1, key="c")
    with pytest.raises(KeyReused):
        await teller.capture(held.hold_id, 2, key="c")
    with pytest.raises(KeyReused):
        await teller.release(held.hold_id, key="c")
    assert before != (await teller.balance(), await teller.seq())


async def test_a_grant_happens_once_per_source(teller: Teller) -> None:
    given = await teller.grant(10, ref="invoice-1", lasts=24)
    again = await teller.grant(10, ref="invoice-1", lasts=24)
    assert again.replayed
    assert again.bucket_id == given.bucket_id
    assert again.balance == balance(10, 0, 10)
    assert (await teller.grant(10, "promo", ref="invoice-1")).bucket_id != given.bucket_id
    for amount, lasts, priority in ((11, 24, None), (10, None, None), (10, 24, 5)):
        with pytest.raises(GrantConflict):
            await teller.grant(amount, ref="invoice-1", lasts=lasts, priority=priority)
    assert (await teller.balance()).posted == 20


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_has_a_length(teller: Teller, key: str) -> None:
    with pytest.raises(InvalidAmount):
        await ledger.grant(
            teller.conn, user_id=teller.user_id, key=key, amount=1, kind="paid", source_ref="r", actor="t"
        )


async def test_a_key_that_an_operator_sent_adjusts_one_person(teller: Teller) -> None:
    await teller.adjust(5, key="adjust:once")
    with pytest.raises(asyncpg.UniqueViolationError, match="key_adjusts_one"):
        await Teller(teller.conn).adjust(5, key="adjust:once")
