"""Operators who put right the same thing at once, and a reversal in the middle of a busy bucket."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from shared.credits import Correction
from shared.database import Pool
from shared.errors import NotEnough, TwinError
from tests.ledger.teller import Teller

N = 16


async def race(pool: Pool, teller: Teller, act: Callable[[Teller, int], Awaitable[Any]]) -> list[Any]:
    async def one(number: int) -> Any:
        async with pool.acquire() as connection:
            try:
                return await act(Teller(connection, teller.user_id, teller.now), number)
            except TwinError as refusal:
                return type(refusal)

    return list(await asyncio.gather(*(one(number) for number in range(N))))


async def test_many_of_the_same_are_one(pool: Pool, teller: Teller) -> None:
    await teller.grant(10, ref="r")
    hold = await teller.hold(4)
    await teller.capture(hold, 4)
    for act, available in (
        (lambda person, _: person.reverse_grant("r"), 0),
        (lambda person, _: person.reverse_charge(hold), 4),
        (lambda person, _: person.adjust(3, key="up"), 7),
        (lambda person, _: person.adjust(-5, key="down"), 2),
    ):
        done: list[Correction] = await race(pool, teller, act)
        assert sorted(correction.replayed for correction in done) == [False] + [True] * (N - 1)
        assert (await teller.balance()).available == available


async def test_takers_race_for_the_last_credits(pool: Pool, teller: Teller) -> None:
    await teller.grant(10)
    done = await race(pool, teller, lambda person, _: person.adjust(-3))
    assert done.count(NotEnough) == N - 3
    assert (await teller.balance()).available == 1


async def test_a_reversal_races_with_everything_on_its_bucket(pool: Pool, teller: Teller) -> None:
    for name in "abcdef":
        await teller.grant(20, ref=name)
        holds = [await teller.hold(2) for _ in range(4)]
        teller.after(0.1)

        async def act(person: Teller, number: int, name: str = name, holds: list[Any] = holds) -> Any:
            match number % 4:
                case 0:
                    return await person.reverse_grant(name)
                case 1:
                    return await person.reserve(1)
                case 2:
                    return await person.capture(holds[number // 4], 1)
                case _:
                    return await person.release(holds[number // 4])

        await race(pool, teller, act)
        row = await teller.conn.fetchrow(
            "SELECT remaining, held FROM credit_buckets WHERE user_id = $1 AND source_ref = $2", teller.user_id, name
        )
        assert row is not None
        assert row["remaining"] == 0
