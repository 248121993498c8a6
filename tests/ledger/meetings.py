"""Two sessions meet at one account: what may come of it, and how they are led into every order of their steps.

An account is named after its run, so that whatever is wrong with it names the run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, count, product
from typing import Any

from shared.database import Pool
from tests.ledger import acts
from tests.ledger.acts import Act, Side
from tests.ledger.footprint import Footprint, answer, footprints
from tests.ledger.lives import begin_lives, lay_to_rest
from tests.ledger.sessions import Bench, Session, Step, bench

Pair = tuple[Act, Act]
Order = tuple[Side, ...]
Outcome = tuple[dict[Side, Any], Footprint | None]
Meet = Callable[[Bench, Pair], Awaitable[None]]

BOTH: list[Order] = [("a", "b"), ("b", "a")]
ORDERS: list[Order] = [(), ("a",), ("b",), *BOTH]
# Where the three steps of a go among the six: 20 orders.
MERGES = ["".join("ab"[place not in of_a] for place in range(6)) for of_a in combinations(range(6), 3)]
# READ COMMITTED takes a snapshot with each statement, so where BEGIN stands changes nothing: that is shown by all 20
# where two want the same, and taken for granted by the 6 where each calls as soon as it has begun.
PROMPT = [merge for merge in MERGES if all(merge.find(of) == merge.find(of * 2) for of in "ab")]
# When both roll back, Postgres leaves nothing of what they did: that is not ours to prove.
ENDINGS: list[tuple[Step, Step]] = [("commit", "commit"), ("commit", "rollback"), ("rollback", "commit")]


@dataclass(frozen=True)
class Meeting:
    """Two acts on one account, `met` in the middle of its life or never heard of; `how` they meet."""

    how: str
    pair: Pair
    met: bool

    @property
    def alone(self) -> bool:
        """A sweep goes to whoever is due: then nobody else may be."""
        return any(act.passes for act in self.pair)

    @property
    def apart(self) -> bool:
        """They do not meet at the account."""
        return any(act.apart for act in self.pair)

    def sessions(self, on: Bench, run: str) -> tuple[Session, Session]:
        one, other = self.pair
        return Session("a", one, on.first, self.user_id(run)), Session("b", other, on.second, self.user_id(run))

    def user_id(self, run: str) -> str:
        return f"{in_words(self.pair)}, {self.how} {'somebody' if self.met else 'nobody'}: {run}"

    async def lead(
        self, on: Bench, runs: Iterable[str], live: Callable[[Session, Session, str], Awaitable[None]]
    ) -> dict[str, Outcome]:
        """What was said in each run, and what it came to."""
        outcomes: dict[str, Outcome] = {}
        for batch in [[run] for run in runs] if self.alone else [list(runs)]:
            user_ids = [self.user_id(run) for run in batch]
            if self.met:
                await begin_lives(on.observer, user_ids)
            said = []
            for run in batch:
                a, b = self.sessions(on, run)
                await live(a, b, run)
                said.append({session.side: session.told for session in (a, b) if "call" in session.done})
            ends = await footprints(on.observer, user_ids)
            outcomes |= {run: (told, ends.get(self.user_id(run))) for run, told in zip(batch, said, strict=True)}
            if self.alone:
                await lay_to_rest(on.observer, user_ids)
        return outcomes

    async def serial(self, on: Bench, orders: Sequence[Order]) -> dict[Order, Outcome]:
        """What it comes to when one is over before the other begins, or one or both never come."""
        runs = {f"serial {''.join(order)}": order for order in orders}

        async def live(a: Session, b: Session, run: str) -> None:
            for side in runs[run]:
                await (a if side == "a" else b).take("call")

        return {runs[run]: outcome for run, outcome in (await self.lead(on, runs, live)).items()}

    def passed_over(self, serial: dict[Order, Outcome], side: Side, committed: str) -> Outcome:
        """What it comes to when the other was busy with the account: the sweep was there, and did nothing."""
        said, end = serial[tuple(one for one in committed if one != side)]
        return ({**said, side: answer(acts.SWEPT_NOTHING)} if side in committed else said), end


def in_words(pair: Pair) -> str:
    return f"{pair[0]} + {pair[1]}"


def possible(merge: str, committed: str) -> set[Order]:
    """The orders of those who committed that respect who had ended before the other called."""
    a, b = ([place for place, side in enumerate(merge) if side == of] for of in "ab")
    both = [("a", "b")] if a[2] < b[1] else [("b", "a")] if b[2] < a[1] else [("a", "b"), ("b", "a")]
    return {tuple(side for side in order if side in committed) for order in both}


def passer(meeting: Meeting, merge: str) -> Side | None:
    """Who came while the other was busy with the account, and passed over it."""
    for side, other, act in (("a", "b", meeting.pair[0]), ("b", "a", meeting.pair[1])):
        came = merge.find(side, merge.find(side) + 1)
        if act.passes and merge.find(other, merge.find(other) + 1) < came < merge.rfind(other):
            return None if meeting.apart else side
    return None


async def every_order(on: Bench, pair: Pair, *, met: bool = True, merges: Sequence[str] = MERGES) -> None:
    meeting = Meeting("in turns on", pair, met)
    serial = await meeting.serial(on, ORDERS)
    runs = {f"{merge} {' '.join(endings)}": (merge, endings) for merge, endings in product(merges, ENDINGS)}

    async def live(a: Session, b: Session, run: str) -> None:
        merge, endings = runs[run]
        steps = {a.side: iter(("begin", "call", endings[0])), b.side: iter(("begin", "call", endings[1]))}
        await on.take_turns(a, b, [(a if side == "a" else b, next(steps[side])) for side in merge])

    for run, (told, end) in (await meeting.lead(on, runs, live)).items():
        merge, endings = runs[run]
        committed = "".join(side for side, ending in zip("ab", endings, strict=True) if ending == "commit")
        outcome = {side: told[side] for side in committed}, end
        side = passer(meeting, merge)
        allowed = (
            [meeting.passed_over(serial, side, committed)]
            if side
            else [serial[order] for order in possible(merge, committed)]
        )
        assert outcome in allowed, meeting.user_id(run)


async def every_write(on: Bench, pair: Pair, *, met: bool = True) -> None:
    meeting = Meeting("one inside the other on", pair, met)
    serial = await meeting.serial(on, ORDERS if meeting.alone else BOTH)
    waited: bool | None = None
    for write in count(1):

        async def live(a: Session, b: Session, _run: str, write: int = write) -> None:
            nonlocal waited
            waited = await on.meet_inside(a, b, write=write)

        run = f"stopped before write {write}"
        outcome = (await meeting.lead(on, [run], live))[run]
        if waited is None:
            assert write > 1, f"{pair[0]} wrote nothing: nothing was proved"
            return
        if pair[1].passes and not meeting.apart:
            assert not waited, f"{meeting.user_id(run)}: {pair[1]} waited"
            allowed = [meeting.passed_over(serial, "b", "ab")]
        elif meeting.apart and not waited:
            allowed = [serial["a", "b"], serial["b", "a"]]
        else:
            assert waited or not met or pair[0] is acts.NEW, f"{meeting.user_id(run)}: {pair[1]} did not wait"
            allowed = [serial[("a", "b") if waited else ("b", "a")]]
        assert outcome in allowed, meeting.user_id(run)


async def meet_all(pool: Pool, meet: Meet, pairs: Sequence[Pair], *, lanes: int) -> None:
    """A few meetings at a time, each lane on connections of its own that soon know the functions.

    Who is stopped while they change plans or prices keeps everybody from beginning a life: such pairs come last, in one
    lane.
    """
    by_themselves = [pair for pair in pairs if any(act.apart for act in pair)]
    others = iter([pair for pair in pairs if pair not in by_themselves])

    async def lane(left: Iterator[Pair]) -> None:
        async with bench(pool) as on:
            for pair in left:
                await meet(on, pair)

    async with asyncio.TaskGroup() as group:
        for _ in range(lanes):
            group.create_task(lane(others))
    await lane(iter(by_themselves))
