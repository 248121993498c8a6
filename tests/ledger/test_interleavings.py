"""Two sessions, every pair of operations, every order of their steps: the outcome is that of one after the other.

An account is named after its run, so that whatever is wrong with it names the run. Three kinds of meeting: between the
statements of two transactions, in every order; inside the functions, stopped before every write; and the same of those
who want the same thing, or are the first to be heard of somebody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, combinations_with_replacement, count, product
from typing import Any

import asyncpg
import pytest

from shared.database import Connection, Pool, prepare_connection
from tests.ledger import acts
from tests.ledger.acts import Act, Side
from tests.ledger.footprint import Footprint, footprints
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.sessions import STOPS, Bench, Session, Step, bench
from tests.local.databases import wait_for

Pair = tuple[Act, Act]
Order = tuple[Side, ...]
Outcome = tuple[dict[Side, Any], Footprint | None]

LANES = 2
ORDERS: list[Order] = [(), ("a",), ("b",), ("a", "b"), ("b", "a")]
# Where the three steps of a go among the six: 20 orders.
MERGES = ["".join("ab"[place not in of_a] for place in range(6)) for of_a in combinations(range(6), 3)]
# READ COMMITTED takes a snapshot with each statement, so where BEGIN stands changes nothing: that is shown by all 20
# where two want the same, and taken for granted by the 6 where each calls as soon as it has begun.
PROMPT = [merge for merge in MERGES if all(merge.find(of) == merge.find(of * 2) for of in "ab")]
_ENDS: list[Step] = ["commit", "rollback"]
ENDINGS = list(product(_ENDS, repeat=2))


@pytest.fixture(scope="module", autouse=True)
def clean(database_url: str) -> Iterator[None]:
    """The invariants and the oracle over all runs, once."""
    wait_for(_with_a_connection(database_url, prepare))
    yield
    wait_for(_with_a_connection(database_url, assert_ledger_clean))


async def prepare(connection: Connection) -> None:
    """The stops and the plan. Statements planned while the tables are empty shall not scan them when they are full."""
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET enable_seqscan = off')
    await connection.execute(STOPS)
    await acts.make_plan(connection)


async def _with_a_connection(url: str, do: Any) -> None:
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    try:
        await do(connection)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Meeting:
    """Two acts on one account, `met` in the middle of its life or never heard of; `how` they meet."""

    how: str
    pair: Pair
    met: bool

    def sessions(self, on: Bench, run: str) -> tuple[Session, Session]:
        one, other = self.pair
        return Session("a", one, on.first, self.user_id(run)), Session("b", other, on.second, self.user_id(run))

    def user_id(self, run: str) -> str:
        return f"{in_words(self.pair)}, {self.how} {'somebody' if self.met else 'nobody'}: {run}"

    async def begin(self, conn: Connection, runs: Sequence[str]) -> None:
        if self.met:
            await acts.begin_lives(conn, [self.user_id(run) for run in runs])

    async def ends(self, conn: Connection, runs: Sequence[str]) -> list[Footprint | None]:
        ends = await footprints(conn, [self.user_id(run) for run in runs])
        return [ends.get(self.user_id(run)) for run in runs]

    async def serial(self, on: Bench) -> dict[Order, Outcome]:
        """What it comes to when one is over before the other begins, or one or both never come."""
        runs = [f"serial {''.join(order)}" for order in ORDERS]
        await self.begin(on.observer, runs)
        told = []
        for run, order in zip(runs, ORDERS, strict=True):
            a, b = self.sessions(on, run)
            for side in order:
                await (a if side == "a" else b).call()
            told.append({side: (a if side == "a" else b).told for side in order})
        ends = await self.ends(on.observer, runs)
        return {order: (said, end) for order, said, end in zip(ORDERS, told, ends, strict=True)}


def in_words(pair: Pair) -> str:
    return f"{pair[0]} + {pair[1]}"


def possible(merge: str, committed: str) -> set[Order]:
    """The orders of those who committed that respect who had ended before the other called."""
    a, b = ([place for place, side in enumerate(merge) if side == of] for of in "ab")
    both = [("a", "b")] if a[2] < b[1] else [("b", "a")] if b[2] < a[1] else [("a", "b"), ("b", "a")]
    return {tuple(side for side in order if side in committed) for order in both}


async def every_order(on: Bench, pair: Pair, *, met: bool = True, merges: Sequence[str] = MERGES) -> None:
    meeting = Meeting("in turns on", pair, met)
    runs = {f"{merge} {' '.join(endings)}": (merge, endings) for merge, endings in product(merges, ENDINGS)}
    serial = await meeting.serial(on)
    await meeting.begin(on.observer, list(runs))
    told: dict[str, dict[Side, Any]] = {}
    for run, (merge, endings) in runs.items():
        a, b = meeting.sessions(on, run)
        steps = {a.side: iter(("begin", "call", endings[0])), b.side: iter(("begin", "call", endings[1]))}
        await on.take_turns(a, b, [(a if side == "a" else b, next(steps[side])) for side in merge])
        told[run] = {"a": a.told, "b": b.told}
    ends = await meeting.ends(on.observer, list(runs))
    for (run, (merge, endings)), end in zip(runs.items(), ends, strict=True):
        committed = "".join(side for side, ending in zip("ab", endings, strict=True) if ending == "commit")
        outcome = {side: told[run][side] for side in committed}, end
        assert outcome in [serial[order] for order in possible(merge, committed)], meeting.user_id(run)


async def every_write(on: Bench, pair: Pair, *, met: bool = True) -> None:
    meeting = Meeting("one inside the other on", pair, met)
    serial = await meeting.serial(on)
    for write in count(1):
        run = f"stopped before write {write}"
        await meeting.begin(on.observer, [run])
        a, b = meeting.sessions(on, run)
        waited = await on.meet_inside(a, b, write=write)
        if waited is None:
            assert write > 1, f"{a.act} wrote nothing: nothing was proved"
            return
        assert waited or not met or a.act is acts.NEW, f"{meeting.user_id(run)}: {b.act} did not wait"
        order: Order = ("a", "b") if waited else ("b", "a")
        (end,) = await meeting.ends(on.observer, [run])
        assert ({"a": a.told, "b": b.told}, end) == serial[order], meeting.user_id(run)


async def meet_all(pool: Pool, meet: Callable[[Bench, Pair], Awaitable[None]], pairs: Sequence[Pair]) -> None:
    """A few meetings at a time, each lane on connections of its own that soon know the functions."""
    left = iter(pairs)

    async def lane() -> None:
        async with bench(pool) as on:
            for pair in left:
                await meet(on, pair)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(LANES):
            lanes.create_task(lane())


@pytest.mark.parametrize("number", range(len(acts.EVERY)), ids=map(str, acts.EVERY))
async def test_in_every_order_of_their_steps(pool: Pool, number: int) -> None:
    await meet_all(
        pool, partial(every_order, merges=PROMPT), [(acts.EVERY[number], other) for other in acts.EVERY[number:]]
    )


@pytest.mark.parametrize("act", acts.EVERY, ids=str)
async def test_one_inside_the_other(pool: Pool, act: Act) -> None:
    await meet_all(pool, every_write, [(act, other) for other in acts.EVERY])


@pytest.mark.parametrize("meet", [every_order, every_write])
async def test_two_who_want_the_same(pool: Pool, meet: Callable[[Bench, Pair], Awaitable[None]]) -> None:
    await meet_all(pool, meet, acts.CLOSE)


@pytest.mark.parametrize("meet", [every_order, every_write])
async def test_the_first_two_who_speak_of_somebody(pool: Pool, meet: Callable[..., Awaitable[None]]) -> None:
    await meet_all(pool, partial(meet, met=False), list(combinations_with_replacement(acts.STRANGERS, 2)))
