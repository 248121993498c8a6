"""The order of the line is that of the books, whatever is submitted, claimed and turned away."""

from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.database import prepare_connection
from shared.generations import CREDIT_IN_LINE, Generation
from tests.local.databases import wait_for
from tests.worker.line import Line

WEIGHTS = (1, 2, 5)


@dataclass
class Model:
    """Start-time fair queueing as the books have it, one line."""

    clock: int
    ends: dict[str, int] = field(default_factory=dict)
    waiting: list[tuple[int, int, str, int]] = field(default_factory=list)
    sent: list[tuple[int, int, str, int]] = field(default_factory=list)
    number: int = 0

    def submit(self, person: str, vcost: int) -> None:
        self.number += 1
        self._join(self.number, person, vcost)

    def claim(self, count: int) -> list[int]:
        self.waiting.sort()
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        self.clock = max([self.clock, *(start - 1 for start, *_ in taken)])
        self.sent += taken
        return [number for _, number, *_ in taken]

    def give_back(self, which: int) -> int:
        """One of those that were claimed could not be sent: it keeps its place until the clock has passed it."""
        start, number, person, vcost = self.sent.pop(which)
        if start < self.clock:
            self._join(number, person, vcost)
        else:
            self.waiting.append((start, number, person, vcost))
        return number

    def _join(self, number: int, person: str, vcost: int) -> None:
        start = max(self.ends.get(person, 0), self.clock)
        self.ends[person] = start + vcost
        self.waiting.append((start, number, person, vcost))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 2), st.sampled_from([0, 1, 1, 3, 10])),
        st.tuples(st.just("claim"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("give back"), st.integers(0, 5), st.just(0)),
    ),
    max_size=40,
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(steps=STEPS)
def test_the_order_is_that_of_the_books(database_url: str, steps: list[tuple[str, int, int]]) -> None:
    """Any submits of any cost by three people of different weights, claims between them, any of these turned away."""
    wait_for(_live(database_url, steps))


async def _live(database_url: str, steps: list[tuple[str, int, int]]) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await prepare_connection(connection)
        line = Line(connection)
        await line.empty()
        people = [await line.person(weight=weight) for weight in WEIGHTS]
        model = Model(clock=await line.clock())
        numbers: dict[UUID, int] = {}
        sent: dict[int, Generation] = {}
        for step, what, cost in [*steps, ("claim", 50, 0)]:
            if step == "submit":
                model.submit(people[what], max(cost, 1) * CREDIT_IN_LINE // WEIGHTS[what])
                numbers[(await line.submit(people[what], cost=cost)).id] = model.number
            elif step == "claim":
                claimed = await line.claim(what)
                assert [numbers[generation.id] for generation in claimed] == model.claim(what)
                sent |= {numbers[generation.id]: generation for generation in claimed}
            elif model.sent:
                await line.give_back(sent[model.give_back(what % len(model.sent))])
        assert await line.clock() == model.clock
    finally:
        await connection.close()
