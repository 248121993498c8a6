"""Callers of the ledger: `shared/ledger.py` over the product's own connections, on uvloop. A process of its own.

`python -m tests.bench.ledger.callers ORDER.json` prints what happened as one line of JSON.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

import orjson
import uvloop

from shared import ledger, settings
from shared.costs import Cost
from shared.database import Connection, Pool, open_pool
from shared.generations import HOLD_LIFETIME
from tests.bench.people import account

ZIPF_EXPONENT = 1.1
PRICE = Cost(
    price_version=1, type="text", unit_credits=1, batch_size=1, multiplier_permille=1000, total=1
).as_snapshot()

_DRAWN = 100_000  # more cycles than a process makes in a usual round; a longer one begins again

Crowd = Literal["uniform", "zipf", "hot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who calls how.

    Attributes:
        callers: how many call at once, each one operation after the other.
        first, last: the accounts, `account(first)` to the one before `account(last)`.
        crowd: which of them the next cycle is for; None: a reserve alone, once for each, and then it is over.
        pooled: whether each operation takes a connection from the pool, as a request does; else each caller keeps one,
            as pgbench's clients do.
        seconds: no cycle begins after that.
    """

    database_url: str
    callers: int
    first: int
    last: int
    crowd: Crowd | None
    seconds: float
    pooled: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """When it began and ended (seconds since 1970), what this process used, and every cycle that ended.

    A cycle is when it ended and how many seconds its operations took: reserve and capture, or the reserve alone.
    """

    began_at: float
    ended_at: float
    cpu_seconds: float
    cycles: Sequence[Sequence[float]]


async def call(order: Order) -> Outcome:
    """Call until the order is carried out; what the ledger raises ends it."""
    told = settings.read(
        settings.Settings,
        _env_file=None,
        mode="local",
        database_url=order.database_url,
        database_pool_size=order.callers,
        redis_url="redis://nobody",
        secret="local:" + "A" * 43 + "=",
        public_url="http://localhost",
    )
    pool = await open_pool(told, application_name="bench")
    cycles: list[Sequence[float]] = []
    drawn = _draw(order)
    began_at, cpu = time.time(), time.process_time()
    numbers = _numbers(order, drawn)
    async with asyncio.TaskGroup() as callers:
        for _ in range(order.callers):
            callers.create_task(_be_a_caller(pool, order, numbers, cycles))
    used, ended_at = time.process_time() - cpu, time.time()
    await pool.close()
    return Outcome(began_at, ended_at, used, cycles)


def _draw(order: Order) -> Sequence[int]:
    """Whom the cycles are for, drawn before they begin: drawing is not what is measured."""
    everybody = range(order.first, order.last)
    match order.crowd:
        case None:
            return everybody
        case "uniform":
            return random.choices(everybody, k=_DRAWN)
        case "zipf":
            return random.choices(
                everybody, [1 / (nth + 1) ** ZIPF_EXPONENT for nth in range(len(everybody))], k=_DRAWN
            )
        case "hot":
            return [order.first]


def _numbers(order: Order, drawn: Sequence[int]) -> Iterator[int]:
    if order.crowd is None:
        yield from drawn
        return
    until = time.monotonic() + order.seconds
    while True:
        for number in drawn:
            if time.monotonic() >= until:
                return
            yield number


async def _be_a_caller(pool: Pool, order: Order, numbers: Iterator[int], cycles: list[Sequence[float]]) -> None:
    if order.pooled:
        await _go_round(pool.acquire, order, numbers, cycles)
        return
    async with pool.acquire() as kept:
        await _go_round(lambda: nullcontext(kept), order, numbers, cycles)


async def _go_round(
    acquire: Callable[[], AbstractAsyncContextManager[Connection]],
    order: Order,
    numbers: Iterator[int],
    cycles: list[Sequence[float]],
) -> None:
    for number in numbers:
        generation_id = uuid4()
        asked = time.perf_counter()
        async with acquire() as connection:
            reservation = await ledger.reserve(
                connection,
                user_id=account(number),
                key=f"reserve:{generation_id}",
                generation_id=generation_id,
                amount=1,
                expires_at=datetime.now(UTC) + HOLD_LIFETIME,
                price=PRICE,
            )
        reserved = time.perf_counter()
        assert reservation.hold_id is not None, reservation.decision
        if order.crowd is None:
            cycles.append((time.time(), reserved - asked))
            continue
        async with acquire() as connection:
            await ledger.capture(connection, hold_id=reservation.hold_id, key=f"settle:{generation_id}", amount=1)
        cycles.append((time.time(), reserved - asked, time.perf_counter() - reserved))


def main() -> None:
    """Read the order, call, print the outcome."""
    order = Order(**orjson.loads(Path(sys.argv[1]).read_bytes()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(call(order))
    print(orjson.dumps(asdict(outcome)).decode())


if __name__ == "__main__":
    main()
