"""The shared buckets: whoever asks and whenever, never above RunPod's figure in ten seconds, and hardly below it."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from shared.database import Pool
from worker.allowances import Allowances

START = datetime(2026, 11, 25, tzinfo=UTC)
WINDOW = timedelta(seconds=10)


async def an_endpoint(pool: Pool, name: str, *allowances: Allowances) -> str:
    """Fresh buckets, empty since the start of the simulated time."""
    async with pool.acquire() as connection:
        await allowances[0].register(connection, [name])
        await connection.execute("UPDATE endpoint_allowances SET refilled_at = $2 WHERE endpoint_id = $1", name, START)
    return name


def most_in_ten_seconds(taken: list[tuple[datetime, int]]) -> int:
    """The most that went out in any ten seconds."""
    most, first, total = 0, 0, 0
    for moment, requests in taken:
        total += requests
        while moment - taken[first][0] >= WINDOW:
            total -= taken[first][1]
            first += 1
        most = max(most, total)
    return most


@pytest.mark.parametrize(("figure", "seed"), [(1000, 1), (2000, 2), (100, 3), (10, 4)])
async def test_never_above_and_hardly_below(pool: Pool, figure: int, seed: int) -> None:
    """Three workers that always want more, for a minute of simulated time."""
    dice = random.Random(seed)
    workers = [Allowances({"run": figure}) for _ in range(3)]
    name = await an_endpoint(pool, f"busy-{figure}", *workers)
    now, taken = START, []
    async with pool.acquire() as connection:
        while now < START + timedelta(minutes=1):
            granted = await dice.choice(workers).take(connection, "run", {name: dice.randint(60, 80)}, now=now)
            taken.append((now, granted[name]))
            now += timedelta(seconds=dice.uniform(0, 0.2))
    assert most_in_ten_seconds(taken) <= 0.98 * figure + 1, "the rest is for what is long on its way"
    assert sum(requests for _, requests in taken) >= 0.95 * figure * 6


@pytest.mark.parametrize("seed", range(3))
async def test_never_above_after_a_pause(pool: Pool, seed: int) -> None:
    """Bursts with silence between them, and some of it given back: saved tokens are no licence for a flood."""
    dice = random.Random(seed)
    allowances = Allowances({"status": 200})
    name = await an_endpoint(pool, f"bursts-{seed}", allowances)
    now, taken = START, []
    async with pool.acquire() as connection:
        for _ in range(150):
            granted = (await allowances.take(connection, "status", {name: 100}, now=now)).get(name, 0)
            unused = dice.randint(0, granted)
            await allowances.give_back(connection, "status", {name: unused})
            taken.append((now, granted - unused))
            now += timedelta(seconds=dice.choice([0.001, 0.01, 0.5, 4]))
    assert most_in_ten_seconds(taken) <= 200


async def test_two_workers_at_the_same_moment_share_one_bucket(pool: Pool) -> None:
    """Twenty connections ask for all there is, at once: together they get what is there."""
    workers = [Allowances({"run": 1000}) for _ in range(2)]
    name = await an_endpoint(pool, "raced", *workers)
    now = START + timedelta(hours=1)

    async def take(worker: Allowances) -> int:
        async with pool.acquire() as connection:
            return (await worker.take(connection, "run", {name: 26}, now=now))[name]

    assert sum(await asyncio.gather(*(take(worker) for worker in workers * 10))) == 26


async def test_a_429_closes_the_door_halves_the_pace_once_and_is_forgotten_slowly(pool: Pool) -> None:
    allowances = Allowances({"run": 1000})
    name = await an_endpoint(pool, "limited", allowances)

    async def taken_in(seconds: int, *, after: datetime) -> int:
        total = 0
        async with pool.acquire() as connection:
            for step in range(10 * seconds):
                moment = after + timedelta(seconds=step / 10)
                total += (await allowances.take(connection, "run", {name: 100}, now=moment))[name]
        return total

    told = START + timedelta(minutes=1)
    async with pool.acquire() as connection:
        for _ in range(20):  # the answers of one moment
            await allowances.slow_down(connection, "run", {name: timedelta(seconds=7)}, now=told)
        assert (
            await connection.fetchval("SELECT pace FROM endpoint_allowances WHERE endpoint_id = $1", name) is not None
        )
    assert await taken_in(7, after=told) == 0, "Retry-After"
    assert 450 <= await taken_in(10, after=told + timedelta(seconds=7)) <= 700, "half, and a little more every second"
    assert await taken_in(10, after=told + timedelta(minutes=2)) >= 950, "whole again"


async def test_who_got_less_than_they_wanted_comes_again_soon(pool: Pool) -> None:
    allowances = Allowances({"run": 100})
    name = await an_endpoint(pool, "short", allowances)
    async with pool.acquire() as connection:
        await allowances.take(connection, "run", {name: 3}, now=START + timedelta(minutes=1))
        assert allowances.again("run") is None
        await allowances.take(connection, "run", {name: 3}, now=START + timedelta(minutes=1))
    assert allowances.again("run") is not None
    assert allowances.again("run") is None, "once"
    async with pool.acquire() as connection:
        await allowances.slow_down(connection, "run", {name: timedelta(minutes=1)}, now=START + timedelta(minutes=2))
        await allowances.take(connection, "run", {name: 3}, now=START + timedelta(minutes=2))
    assert allowances.again("run") is None, "a closed door does not open by filling up"


async def test_a_clock_that_lags_gives_nothing_twice(pool: Pool) -> None:
    """Who waited for the bucket has the time of its transaction's begin: earlier than what is written there."""
    allowances = Allowances({"run": 1000})
    name = await an_endpoint(pool, "lagging", allowances)
    now = START + timedelta(minutes=1)
    async with pool.acquire() as connection:
        assert await allowances.take(connection, "run", {name: 100}, now=now) == {name: 26}
        for _ in range(3):
            lagging = now - timedelta(seconds=1)
            assert await allowances.take(connection, "run", {name: 100}, now=lagging) == {name: 0}
            assert await allowances.take(connection, "run", {name: 100}, now=now) == {name: 0}


@pytest.mark.parametrize("seed", range(5))
async def test_never_above_whatever_waits_with_its_token(pool: Pool, seed: int) -> None:
    """What was taken goes out at once, or waits for seconds and then needs a token that counts."""
    dice = random.Random(seed)
    allowances = Allowances({"run": 100})
    name = await an_endpoint(pool, f"waiting-{seed}", allowances)
    now, sent, waiting = START, [], list[datetime]()
    async with pool.acquire() as connection:
        for _ in range(400):
            now += timedelta(seconds=dice.choice([0.02, 0.1, 0.3, 1.5]))
            granted = (await allowances.take(connection, "run", {name: 4}, now=now))[name]
            if dice.random() < 0.3:
                waiting += [now] * granted
            else:
                sent.append((now, granted))
            if dice.random() < 0.1:
                for taken in waiting:
                    granted = (await allowances.take(connection, "run", {name: 1}, held=now - taken, now=now))[name]
                    sent.append((now, granted))
                waiting.clear()
    assert most_in_ten_seconds(sent) <= 100


async def test_a_token_that_waited_counts_while_the_bucket_is_never_full(pool: Pool) -> None:
    """A slow worker loses nothing: all that it took at a steady pace goes out, though a second late."""
    allowances = Allowances({"run": 100})
    name = await an_endpoint(pool, "steady", allowances)
    now, late = START + timedelta(minutes=1), timedelta(seconds=1)
    async with pool.acquire() as connection:
        for step in range(50):
            now += timedelta(seconds=0.2)
            await allowances.take(connection, "run", {name: 4}, now=now)
            good = (await allowances.take(connection, "run", {name: 1}, held=late, now=now))[name]
            if step >= 10:  # the bucket was full when the first came
                assert good == 1
