"""Many at once, on real connections. Count effects, not calls."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import UUID, uuid4

import pytest

from shared import ledger
from shared.database import Connection, Pool
from shared.errors import AccountBusy, HoldExists, HoldNotOpen, TwinError
from tests.ledger.teller import Teller, fresh

T = TypeVar("T")
N = 24


async def race(pool: Pool, user_id: str, act: Callable[[Teller, int], Awaitable[T]]) -> list[T | TwinError]:
    """N tasks act for one person, each on a connection of its own; refusals are results."""

    async def one(number: int) -> T | TwinError:
        async with pool.acquire() as connection:
            try:
                return await act(Teller(connection, user_id=user_id), number)
            except TwinError as refusal:
                return refusal

    return list(await asyncio.gather(*(one(number) for number in range(N))))


def outcomes(results: list[ledger.Reservation | TwinError]) -> Counter[str]:
    return Counter(result.outcome if isinstance(result, ledger.Reservation) else result.code for result in results)


async def test_credit_for_one_is_held_once(pool: Pool, teller: Teller) -> None:
    await teller.grant(5)
    results = await race(pool, teller.user_id, lambda person, _: person.reserve(5))
    assert outcomes(results) == {"held": 1, "denied": N - 1}
    assert (await teller.balance()).held == 5


async def test_credit_for_seven_in_several_buckets_and_overdraft(pool: Pool, teller: Teller) -> None:
    await teller.open(overdraft_limit=6)
    for amount in (1, 4, 2, 9, 3):
        await teller.grant(amount)
    results = await race(pool, teller.user_id, lambda person, _: person.reserve(3))
    # 19 credits and 6 of overdraft: eight times three, and one is left over.
    assert outcomes(results) == {"held": 8, "denied": N - 8}


async def test_a_person_nobody_has_met_is_opened_once(pool: Pool, teller: Teller) -> None:
    results = await race(pool, teller.user_id, lambda person, number: person.grant(1, ref=f"r{number}"))
    assert all(isinstance(result, ledger.Grant) for result in results)
    assert (await teller.balance()).available == N


async def test_one_key_is_one_reservation(pool: Pool, teller: Teller) -> None:
    await teller.grant(100)
    generation_id, key = uuid4(), fresh("key")
    results = await race(
        pool, teller.user_id, lambda person, _: person.reserve(5, key=key, generation_id=generation_id)
    )
    assert outcomes(results) == {"held": N}
    assert len({result.hold_id for result in results if isinstance(result, ledger.Reservation)}) == 1
    assert (await teller.balance()).held == 5


async def test_two_keys_for_one_generation_are_one_hold(pool: Pool, teller: Teller) -> None:
    await teller.grant(100)
    generation_id = uuid4()
    results = await race(
        pool, teller.user_id, lambda person, n: person.reserve(5, key=f"key-{n % 2}", generation_id=generation_id)
    )
    assert outcomes(results) == {"held": N // 2, HoldExists.code: N // 2}
    assert (await teller.balance()).held == 5


async def test_a_generation_is_held_again_once_however_many_try(pool: Pool, teller: Teller) -> None:
    await teller.grant(100)
    generation_id = uuid4()
    ended = await teller.reserve(5, generation_id=generation_id)
    assert ended.hold_id is not None
    await teller.release(ended.hold_id)
    results = await race(pool, teller.user_id, lambda person, _: person.reserve(5, generation_id=generation_id))
    assert outcomes(results) == {"held": 1, HoldExists.code: N - 1}
    assert (await teller.balance()).held == 5


async def test_two_people_never_hold_for_one_generation(pool: Pool, teller: Teller) -> None:
    """Each has an account of their own to lock: the number of the round keeps them apart."""
    generation_id = uuid4()
    strangers = [await Teller(teller.conn).open() for _ in range(2)]
    async with pool.acquire() as one, pool.acquire() as other:
        for stranger, connection in zip(strangers, (one, other), strict=True):
            await stranger.grant(5)
            stranger.conn = connection
        transaction = one.transaction()
        await transaction.start()
        await strangers[0].reserve(5, generation_id=generation_id)
        second = asyncio.create_task(strangers[1].reserve(5, generation_id=generation_id))
        while not await teller.conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        await transaction.commit()
        with pytest.raises(HoldExists):
            await second


@pytest.mark.parametrize("same_key", [True, False])
async def test_one_hold_is_captured_once(pool: Pool, teller: Teller, same_key: bool) -> None:
    await teller.grant(20)
    hold = await teller.hold(7)

    async def capture(person: Teller, number: int) -> ledger.Settlement:
        return await person.capture(hold, 4, key="c" if same_key else f"c{number}")

    results = await race(pool, teller.user_id, capture)
    settled = [result for result in results if isinstance(result, ledger.Settlement)]
    assert sum(not result.replayed for result in settled) == 1
    assert len(settled) == (N if same_key else 1)
    assert (await teller.balance()).available == 16


async def test_capture_release_and_the_sweep_race_for_a_hold(pool: Pool, teller: Teller) -> None:
    await teller.grant(70)
    for hold in [await teller.hold(10) for _ in range(7)]:
        results = await race(pool, teller.user_id, partial(_finish, hold))
        assert {type(result) for result in results} <= {ledger.Settlement, ledger.Expired, HoldNotOpen}
        settlements = [result for result in results if isinstance(result, ledger.Settlement)]
        assert sum(not settlement.replayed for settlement in settlements) == 1
    charged = await teller.conn.fetchval(
        "SELECT sum(captured + late_captured) FROM credit_holds WHERE user_id = $1", teller.user_id
    )
    assert (await teller.balance()).available == 70 - charged


async def _finish(hold: UUID, person: Teller, number: int) -> ledger.Settlement | ledger.Expired:
    person.after(2)
    if number % 3 == 0:
        return await person.capture(hold, 10, key=f"c-{hold}")
    if number % 3 == 1:
        return await person.release(hold, key=f"r-{hold}")
    return await person.expire()


@pytest.mark.parametrize("same_key", [True, False])
async def test_one_source_is_granted_once(pool: Pool, teller: Teller, same_key: bool) -> None:
    results = await race(
        pool,
        teller.user_id,
        lambda person, n: person.grant(25, "daily", ref="2026-03-01", key="g" if same_key else f"g{n}", lasts=12),
    )
    grants = [result for result in results if isinstance(result, ledger.Grant)]
    assert len(grants) == N
    assert sum(not grant.replayed for grant in grants) == 1
    assert (await teller.balance()).available == 25


async def test_everything_at_once(pool: Pool, teller: Teller) -> None:
    await teller.open(overdraft_limit=5)
    await teller.grant(30)

    async def live(person: Teller, number: int) -> None:
        for step in range(6):
            if (number + step) % 4 == 0:
                await person.grant(2, "promo", lasts=3)
            reservation = await person.reserve(1 + (number * step) % 4)
            person.after((number + step) % 3)
            if (number + step) % 5 == 0:
                await person.expire()
            if reservation.hold_id is not None and step % 2:
                await person.capture(reservation.hold_id, reservation.decision.remaining % 2)
            elif reservation.hold_id is not None and step % 3:
                await person.release(reservation.hold_id)

    assert set(await race(pool, teller.user_id, live)) == {None}


async def test_whoever_waits_too_long_for_an_account_is_told_so(pool: Pool, conn: Connection, teller: Teller) -> None:
    await teller.grant(5)
    await conn.execute("ALTER FUNCTION ledger_reserve SET lock_timeout = '50ms'")
    async with pool.acquire() as owner, owner.transaction():
        await owner.execute("SELECT FROM user_billing WHERE user_id = $1 FOR UPDATE", teller.user_id)
        with pytest.raises(AccountBusy, match="Nothing was done"):
            await teller.reserve(5)
    await conn.execute("ALTER FUNCTION ledger_reserve SET lock_timeout = '3s'")
    assert (await teller.reserve(5)).outcome == "held"


async def test_an_uncommitted_reservation_is_waited_for(pool: Pool, teller: Teller) -> None:
    """The second reader must judge what the first one committed, not what it saw before it waited."""
    await teller.grant(5)
    async with pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        held = await Teller(first, user_id=teller.user_id).reserve(5)
        waiting = asyncio.create_task(teller.reserve(5))
        await _until_blocked(first)
        await transaction.commit()
        assert held.outcome == "held"
        assert (await waiting).outcome == "denied"


async def test_who_opens_an_account_and_reserves_stops_nobody_else_who_comes_first(pool: Pool, teller: Teller) -> None:
    """As a submit with a key does, beside one without, of a person whom nobody has met."""
    async with pool.acquire() as first:
        opener = Teller(first, user_id=teller.user_id)
        async with first.transaction():
            await opener.open()
            waiting = asyncio.create_task(teller.reserve(0))
            await _until_blocked(first)
            assert (await opener.reserve(0)).outcome == "held"
        assert (await waiting).outcome == "held"


async def test_a_rolled_back_reservation_never_was(pool: Pool, teller: Teller) -> None:
    await teller.grant(5)
    async with pool.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        await Teller(first, user_id=teller.user_id).reserve(5)
        waiting = asyncio.create_task(teller.reserve(5))
        await _until_blocked(first)
        await transaction.rollback()
        assert (await waiting).outcome == "held"


async def _until_blocked(connection: Connection) -> None:
    """Until somebody waits for a lock of this connection."""
    while not await connection.fetchval(
        "SELECT bool_or(pg_backend_pid() = ANY (pg_blocking_pids(pid))) FROM pg_stat_activity"
    ):
        pass


async def test_a_look_that_waited_for_the_account_does_not_date_back_what_it_writes(pool: Pool, teller: Teller) -> None:
    await teller.open(plan=await teller.plan(daily_credits=10))
    async with pool.acquire() as other:
        async with other.transaction():
            await other.execute("SELECT ledger_lock($1)", teller.user_id)
            look = asyncio.create_task(ledger.refresh(teller.conn, user_id=teller.user_id))
            while not await other.fetchval("SELECT pg_blocking_pids($1) <> '{}'", teller.conn.get_server_pid()):
                await asyncio.sleep(0)
            await ledger.grant(
                other, user_id=teller.user_id, key="k", amount=1, kind="promo", source_ref="r", actor="tester"
            )
        assert await look
        entries = await other.fetch("SELECT at FROM credit_entries WHERE user_id = $1 ORDER BY seq", teller.user_id)
    moments = [row["at"] for row in entries]
    assert len(moments) == 2
    assert moments == sorted(moments), "whoever asks what there was at a moment halves the entries by time"
