"""A loop of rounds: woken by its bell, bounded by its slots, unharmed by what goes wrong in it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from worker.rounds import Rounds

LONG = timedelta(hours=1)


class Work:
    """A pile of items, and what was done with them."""

    def __init__(self, count: int) -> None:
        self.waiting = list(range(count))
        self.done: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.failures = 0

    async def claim(self, limit: int) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return taken

    async def work(self, items: Sequence[int]) -> None:
        self.at_once += len(items)
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= len(items)
        if 13 in items:
            raise ValueError("an unlucky number")
        self.done += items


def rounds(work: Work, *, slots: int = 4, batch: int = 2) -> Rounds[int]:
    return Rounds("test", claim=work.claim, work=work.work, slots=slots, batch=batch, idle=LONG, together=True)


async def run_until(loop: Rounds[int], done: "asyncio.Future[None] | asyncio.Task[None]") -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(loop.run(stopping))
    async with asyncio.timeout(10):
        await done
    stopping.set()
    loop.ring()
    await running


async def emptied(work: Work, count: int) -> None:
    while len(work.done) < count:
        await asyncio.sleep(0)


async def test_slots_bound_what_is_under_way() -> None:
    work = Work(20)
    loop = rounds(work)

    async def watch() -> None:
        while work.at_once < 4:
            await asyncio.sleep(0)
        work.gate.set()
        while len(work.done) < 18:
            await asyncio.sleep(0)

    await run_until(loop, asyncio.create_task(watch()))
    assert work.most_at_once == 4
    assert len(work.done) == 18, "the batch of 13 failed; all the others were done"


async def test_what_is_done_with_frees_its_slots_before_its_batch_ends() -> None:
    """One item of the first batch takes for ever; the others make room for the next."""
    work, gate = Work(6), asyncio.Event()

    async def do(items: Sequence[int]) -> None:
        if 0 in items:
            loop.free(len(items) - 1)
            await gate.wait()
        work.done += items

    loop = Rounds[int]("test", claim=work.claim, work=do, slots=4, batch=4, idle=LONG, together=True)

    async def story() -> None:
        await emptied(work, 2)
        assert work.done == [4, 5]
        gate.set()
        await emptied(work, 6)

    await run_until(loop, asyncio.create_task(story()))


async def test_a_bell_wakes_a_loop_that_would_sleep_for_an_hour() -> None:
    work = Work(0)
    work.gate.set()
    loop = rounds(work)

    async def story() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        work.waiting.append(1)
        loop.ring()
        await emptied(work, 1)

    await run_until(loop, asyncio.create_task(story()))


async def test_a_database_that_comes_back_is_found_again() -> None:
    work = Work(2)
    work.gate.set()
    work.failures = 2
    loop = rounds(work)
    await run_until(loop, asyncio.create_task(emptied(work, 2)))


async def test_draining_waits_then_cuts_off() -> None:
    work = Work(2)
    loop = rounds(work)

    async def started() -> None:
        while not work.at_once:
            await asyncio.sleep(0)

    await run_until(loop, asyncio.create_task(started()))
    assert await loop.drain(0.01) == 1
    assert work.done == []
    assert await loop.drain(0.01) == 0


async def test_who_came_back_short_looks_again_soon_without_a_bell() -> None:
    """Nothing may be sent just now, and then it may: nobody rings for that."""
    work, looks = Work(3), 0

    async def claim(limit: int) -> list[int]:
        nonlocal looks
        looks += 1
        return await work.claim(limit) if looks > 2 else []

    soon = timedelta(milliseconds=1)
    loop = Rounds[int](
        "test", claim=claim, work=work.work, slots=4, batch=2, idle=LONG, together=True, again=lambda: soon
    )
    work.gate.set()

    async def all_done() -> None:
        while len(work.done) < 3:
            await asyncio.sleep(0)

    await run_until(loop, asyncio.create_task(all_done()))
    assert sorted(work.done) == [0, 1, 2]
