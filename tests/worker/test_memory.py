"""A budget of bytes: never more out than there is, first come first served, and nothing lost when somebody gives up."""

import asyncio

import pytest

from worker.answers import MAXIMUM_ANSWER_BYTES, USUAL_ANSWER_BYTES
from worker.memory import Memory, NoRoom, Pool


async def test_no_more_is_out_than_there_is() -> None:
    pool = Pool(100)
    most = out = 0

    async def work(size: int) -> None:
        nonlocal most, out
        async with pool.hold(size):
            out += size
            most = max(most, out)
            await asyncio.sleep(0)
            out -= size

    await asyncio.gather(*(work(size) for size in [40, 70, 10, 100, 30, 60, 5] * 20))
    assert most == 100, "and all of it is used"
    assert pool.free == 100


async def test_somebody_large_is_not_passed_by() -> None:
    pool = Pool(100)
    order: list[str] = []

    async def work(name: str, size: int) -> None:
        async with pool.hold(size):
            order.append(name)

    async with pool.hold(60):
        waiting = [asyncio.create_task(work("large", 90))]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(work("small", 10)))  # would fit, but came later
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]


async def test_more_than_all_of_it_is_all_of_it() -> None:
    pool = Pool(100)
    async with pool.hold(10**9):
        assert pool.free == 0
    assert pool.free == 100


async def test_whoever_gives_up_waiting_leaves_no_gap() -> None:
    pool = Pool(100)
    order: list[str] = []

    async def work(name: str, size: int) -> None:
        async with pool.hold(size):
            order.append(name)

    async with pool.hold(40):
        given_up = asyncio.create_task(work("given up", 100))
        await asyncio.sleep(0)
        after = asyncio.create_task(work("after", 50))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        await asyncio.wait_for(after, 1)
    assert (order, pool.free) == (["after"], 100)


async def test_whoever_is_cancelled_in_the_moment_of_their_turn_hands_it_on() -> None:
    pool = Pool(100)
    first = pool.hold(100)
    await first.__aenter__()
    unlucky = asyncio.create_task(pool.hold(100).__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)  # it is the next one's turn, who has not heard of it yet
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    assert pool.free == 100


async def test_polls_and_finishes_that_want_all_of_it_come_to_their_end() -> None:
    """Answers that prove larger than they were taken to be wait for the giants' share with one in hand already."""
    memory, ended = Memory(), 0

    async def read() -> None:
        nonlocal ended
        async with memory.room() as room:
            await room.widen(USUAL_ANSWER_BYTES)
            await asyncio.sleep(0)
            await room.widen(MAXIMUM_ANSWER_BYTES)
            await asyncio.sleep(0)
            ended += 1

    async def finish() -> None:
        nonlocal ended
        async with memory.answers.hold(memory.answers.total), memory.media.hold(memory.media.total):
            await asyncio.sleep(0)
            ended += 1

    async with asyncio.timeout(10):
        await asyncio.gather(*(work() for work in [read, read, read, finish] * 10))
    assert ended == 40
    assert (memory.answers.free, memory.giants.free) == (memory.answers.total, memory.giants.total)


async def test_who_may_not_wait_for_long_comes_again() -> None:
    pool = Pool(100)
    async with pool.hold(60):
        with pytest.raises(NoRoom):
            async with pool.hold(50, patience=0):
                pass
        async with pool.hold(40, patience=0):
            assert pool.free == 0
    assert pool.free == 100


def test_the_figure_that_the_readme_gives() -> None:
    memory = Memory()
    total = memory.answers.total + memory.giants.total + memory.media.total + memory.pixels.total
    assert round(total / 2**20) == 936
