"""Two sessions, every pair of operations, every order of their steps: the outcome is that of one after the other.

Three kinds of meeting: between the statements of two transactions, in every order; inside the functions, stopped before
every write; and the same of those who want the same thing, or are the first to be heard of somebody.

Who changes a plan or a price waits for nobody's account, and nobody waits for them: either order will do unless one was
over before the other began. The sweep waits for nobody either: an account that is busy it leaves as it finds it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.database import Connection, Pool, prepare_connection
from tests.ledger import acts
from tests.ledger.acts import Act
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.lives import LIFE
from tests.ledger.meetings import PROMPT, Meet, every_order, every_write, meet_all
from tests.ledger.sessions import STOPS
from tests.local.databases import Databases, wait_for

LANES = 2


@pytest.fixture(scope="module", autouse=True)
def clean(database_url: str) -> Iterator[None]:
    """The invariants and the oracle over all runs, once."""
    wait_for(_with_a_connection(database_url, prepare))
    yield
    wait_for(_with_a_connection(database_url, assert_ledger_clean))


async def prepare(connection: Connection) -> None:
    """The stops and the lives. Statements planned while the tables are empty shall not scan them when they are full."""
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET enable_seqscan = off')
    await connection.execute(STOPS)
    await connection.execute(LIFE)


async def _with_a_connection(url: str, do: Any) -> None:
    connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    try:
        await do(connection)
    finally:
        await connection.close()


# Of the module, as `clean` is: what fails when a test is over must not come between two tests, or -x finds no end.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty_pool(databases: Databases) -> AsyncIterator[Pool]:
    """The pool of a database in which nobody else is due."""
    name = await databases.create()
    url = databases.url(name)
    await _with_a_connection(url, prepare)
    async with asyncpg.create_pool(url, min_size=0, init=prepare_connection) as opened:
        yield opened
    await _with_a_connection(url, assert_ledger_clean)
    await databases.drop(name)


@pytest.mark.parametrize("number", range(len(acts.EVERY)), ids=map(str, acts.EVERY))
async def test_in_every_order_of_their_steps(pool: Pool, number: int) -> None:
    pairs = [(acts.EVERY[number], other) for other in acts.EVERY[number:]]
    await meet_all(pool, partial(every_order, merges=PROMPT), pairs, lanes=LANES)


@pytest.mark.parametrize("act", acts.EVERY, ids=str)
async def test_one_inside_the_other(pool: Pool, act: Act) -> None:
    await meet_all(pool, every_write, [(act, other) for other in acts.EVERY], lanes=LANES)


async def test_the_sweep_in_every_order_of_their_steps(empty_pool: Pool) -> None:
    pairs = [(acts.SWEEP, other) for other in (acts.SWEEP, *acts.EVERY)]
    await meet_all(empty_pool, partial(every_order, merges=PROMPT), pairs, lanes=1)


async def test_the_sweep_inside_the_others_and_they_inside_it(empty_pool: Pool) -> None:
    within = [(other, acts.SWEEP) for other in acts.EVERY]
    around = [(acts.SWEEP, other) for other in (acts.SWEEP, *acts.EVERY)]
    await meet_all(empty_pool, every_write, within + around, lanes=1)


@pytest.mark.parametrize("meet", [every_order, every_write])
async def test_two_who_want_the_same(pool: Pool, meet: Meet) -> None:
    await meet_all(pool, meet, acts.CLOSE, lanes=LANES)


@pytest.mark.parametrize("meet", [every_order, every_write])
async def test_the_first_two_who_speak_of_somebody(pool: Pool, meet: Callable[..., Any]) -> None:
    pairs = list(combinations_with_replacement(acts.STRANGERS, 2))
    await meet_all(pool, partial(meet, met=False), pairs, lanes=LANES)
