"""Workers share what RunPod takes at once: never more together than there is, and a dead one's part comes back."""

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from shared.database import Pool
from worker.runpod import CALL_TIMEOUT_SECONDS
from worker.shares import AT_ONCE, BEATS_A_LEASE, Shares

LEASE = timedelta(seconds=30)
START = datetime(2026, 11, 25, tzinfo=UTC)


async def forget(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("TRUNCATE workers")


def together(workers: list[Shares]) -> int:
    return sum(worker.limit("status") for worker in workers)


async def test_alone_it_has_nearly_everything(pool: Pool) -> None:
    await forget(pool)
    alone = Shares()
    await alone.beat(pool, lease=LEASE)
    assert alone.limit("status") == 0.95 * AT_ONCE["status"]
    assert alone.limit("run") == 0.95 * AT_ONCE["run"]


async def test_a_newcomer_begins_at_once_and_they_come_to_share_evenly(pool: Pool) -> None:
    await forget(pool)
    workers = [Shares(), Shares(), Shares()]
    for count in range(1, 4):
        for worker in workers[:count]:
            await worker.beat(pool, lease=LEASE)
        assert workers[count - 1].limit("status") > 1
        assert together(workers[:count]) <= AT_ONCE["status"]
    for _ in range(3):
        for worker in workers:
            await worker.beat(pool, lease=LEASE)
            assert together(workers) <= AT_ONCE["status"]
    assert [worker.limit("status") for worker in workers] == [126] * 3


async def test_what_is_under_way_counts_until_it_is_over(pool: Pool) -> None:
    await forget(pool)
    first, second = Shares(), Shares()
    await first.beat(pool, lease=LEASE)
    async with AsyncExitStack() as calls:
        for _ in range(300):
            assert await calls.enter_async_context(first.one("ep", "status"))
        for _ in range(3):
            await second.beat(pool, lease=LEASE)
            await first.beat(pool, lease=LEASE)
            assert 300 + second.limit("status") <= AT_ONCE["status"]
        assert first.room("ep", "status") == 0
        assert first.room("other", "status") > 0
    for _ in range(2):
        await first.beat(pool, lease=LEASE)
        await second.beat(pool, lease=LEASE)
    assert (first.limit("status"), second.limit("status")) == (190, 190)


async def test_the_share_of_a_dead_worker_comes_back(pool: Pool) -> None:
    await forget(pool)
    living, dead = Shares(), Shares()
    now = START
    for _ in range(3):
        await living.beat(pool, lease=LEASE, now=now)
        await dead.beat(pool, lease=LEASE, now=now)
    await living.beat(pool, lease=LEASE, now=now + LEASE / 2)
    assert living.limit("status") == 190
    await living.beat(pool, lease=LEASE, now=now + LEASE)
    assert living.limit("status") == 380


async def test_who_was_silent_for_long_makes_no_calls_until_it_has_agreed_again(pool: Pool) -> None:
    """Postgres was away for longer than a lease: whoever beats first finds nobody, and takes what was the others'."""
    await forget(pool)
    seconds = 0.0
    quick, slow = Shares(clock=lambda: seconds), Shares(clock=lambda: seconds)
    for worker in (quick, slow, quick, slow):
        await worker.beat(pool, lease=LEASE, now=START)
    assert together([quick, slow]) == 380
    seconds = LEASE.total_seconds()
    await quick.beat(pool, lease=LEASE, now=START + LEASE)
    assert quick.limit("status") == 380
    assert together([quick, slow]) <= AT_ONCE["status"]
    await slow.beat(pool, lease=LEASE, now=START + LEASE)
    assert together([quick, slow]) <= AT_ONCE["status"]
    assert slow.limit("status") > 0


async def test_a_call_that_begins_before_the_share_is_in_doubt_ends_before_others_have_it(pool: Pool) -> None:
    await forget(pool)
    seconds = 0.0
    worker = Shares(clock=lambda: seconds)
    await worker.beat(pool, lease=LEASE, now=START)
    seconds = 2 * LEASE.total_seconds() / BEATS_A_LEASE
    assert worker.limit("status") > 0, "one beat was lost"
    seconds = LEASE.total_seconds() - CALL_TIMEOUT_SECONDS
    assert worker.limit("status") == 0


async def test_who_leaves_in_order_frees_its_share_at_once(pool: Pool) -> None:
    await forget(pool)
    staying, leaving = Shares(), Shares()
    for worker in (staying, leaving, staying, leaving):
        await worker.beat(pool, lease=LEASE)
    await leaving.leave(pool)
    await staying.beat(pool, lease=LEASE)
    assert staying.limit("status") == 380


async def test_whatever_the_order_of_beats_and_deaths_they_never_have_more_than_there_is(pool: Pool) -> None:
    """Workers come, beat, and die at random, at the same moment too; the dead ones' calls are over with their lease."""
    await forget(pool)
    dice = random.Random(20261125)
    workers, now = [Shares()], START
    for _ in range(60):
        now += timedelta(seconds=dice.uniform(0, 3))
        if len(workers) < 5 and dice.random() < 0.3:
            workers.append(Shares())
            await workers[-1].beat(pool, lease=LEASE, now=now)
        beating = dice.sample(workers, k=dice.randint(1, len(workers)))
        await asyncio.gather(*(worker.beat(pool, lease=LEASE, now=now) for worker in beating))
        begun = [worker for worker in workers if worker.limit("status") > 1]
        assert together(begun) <= AT_ONCE["status"]
        if len(workers) > 1 and dice.random() < 0.1:
            await workers.pop(dice.randrange(len(workers))).leave(pool)


async def test_a_call_that_finds_no_room_is_told_so(pool: Pool) -> None:
    await forget(pool)
    workers = [Shares() for _ in range(12)]
    for _ in range(4):
        for worker in workers:
            await worker.beat(pool, lease=LEASE)
    assert {worker.limit("cancel") for worker in workers} == {1}
    async with workers[0].one("ep", "cancel") as began, workers[0].one("ep", "cancel") as more:
        assert (began, more) == (True, False)


async def test_more_workers_than_runpod_takes_requests_make_no_more_than_it_takes(pool: Pool) -> None:
    """It takes 20 cancels at once of up to 25 workers; when one of the first leaves, a newcomer is one of the first."""
    await forget(pool)
    workers: list[Shares] = []

    async def beat() -> int:
        for worker in workers:
            await worker.beat(pool, lease=LEASE)
            assert cancels() <= AT_ONCE["cancel"]
        return cancels()

    def cancels() -> int:
        return sum(worker.limit("cancel") for worker in workers)

    for joined in (1, 5, 10, 20, 25):  # some together, before the others have made room
        newcomers = [Shares() for _ in range(joined - len(workers))]
        for newcomer in newcomers:
            await newcomer.beat(pool, lease=LEASE)
        workers += newcomers
        for _ in range(6):
            await beat()
        assert cancels() >= min(joined, 19)
    await workers.pop(3).leave(pool)
    assert await beat() == AT_ONCE["cancel"] - 1, "the others keep their numbers"
    workers.append(Shares())
    await workers[-1].beat(pool, lease=LEASE)
    assert await beat() == AT_ONCE["cancel"]
