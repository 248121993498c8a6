"""What an account held at a moment: the entries up to it, that one included."""

from datetime import datetime

import pytest

from shared import ledger
from shared.credits import Books
from tests.ledger.teller import HOUR, NOON, Teller


async def at(teller: Teller, moment: datetime) -> Books:
    return await ledger.books_at(teller.conn, user_id=teller.user_id, at=moment)


async def test_before_the_first_entry_there_is_nothing(teller: Teller) -> None:
    nothing = Books(seq=0, posted=0, held=0, overdraft_used=0)
    assert await at(teller, NOON) == nothing
    await teller.grant(10)
    assert await at(teller, NOON - HOUR) == nothing


async def test_every_moment_of_a_life(teller: Teller) -> None:
    """Everything that happened up to a moment counts, at that very moment already."""
    await teller.open(overdraft_limit=100)
    await teller.grant(10)
    hold = await teller.after(1).hold(14)
    await teller.after(1).capture(hold, 13)
    await teller.after(1).grant(5)
    expected = {
        0: Books(seq=1, posted=10, held=0, overdraft_used=0),
        1: Books(seq=3, posted=10, held=14, overdraft_used=0),
        2: Books(seq=6, posted=0, held=0, overdraft_used=3),
        3: Books(seq=8, posted=2, held=0, overdraft_used=0),
    }
    for hours, books in expected.items():
        assert await at(teller, NOON + hours * HOUR) == books
        assert await at(teller, NOON + (hours + 0.5) * HOUR) == books
    assert await at(teller, NOON + 1000 * HOUR) == expected[3]


@pytest.mark.parametrize("entries", [1, 2, 3, 4, 7, 8, 9])
async def test_any_number_of_entries_is_halved_to_the_right_one(teller: Teller, entries: int) -> None:
    for number in range(entries):
        await teller.grant(1)
        assert (await at(teller, teller.now)).seq == number + 1
        teller.after(1)
    for number in range(entries):
        assert (await at(teller, NOON + number * HOUR)).seq == number + 1
