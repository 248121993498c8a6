"""Types that share an endpoint: what holds a clock and what does not, and lanes that the clock has passed."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from shared.database import Pool
from shared.generations import Generation, Type
from tests.worker.line import MINUTE, Line, ids
from worker.line import claim
from worker.places import Deal
from worker.settings import MOST_JOBS
from worker.transitions import Endpoint

HERE = [
    Endpoint(type=Type.TEXT, name="text", endpoint_id="shared"),
    Endpoint(type=Type.IMAGE, name="image", endpoint_id="shared"),
    Endpoint(type=Type.IMAGE, name="own", endpoint_id="own"),
]
"""Images have an endpoint of their own besides."""


@pytest.fixture
async def line(pool: Pool) -> AsyncIterator[Line]:
    """Idle lines; nothing is in hand."""
    async with pool.acquire() as connection:
        opened = Line(connection)
        await opened.empty()
        await connection.execute("UPDATE generations SET cancel_requested_at = now() WHERE state = 'reserved'")
        await connection.execute("UPDATE generations SET endpoint_id = 'elsewhere' WHERE state = 'submitting'")
        await connection.execute("DELETE FROM queue_meetings")
        yield opened


async def claimed(line: Line, endpoint_id: str) -> list[Generation]:
    """One place there, for whoever stands first."""
    deal = Deal(
        token=uuid4(),
        slots=1,
        limits={endpoint_id: MOST_JOBS},
        waiting=Counter({endpoint_id: MOST_JOBS}),
        most=Counter({Type.TEXT: 1, Type.IMAGE: 1}),
        draws=[place for place in HERE if place.endpoint_id == endpoint_id],
        room=Counter({endpoint_id: 1}),
    )
    return await claim(line.connection, deal, endpoints=HERE, lease=MINUTE)


async def ended(line: Line, generations: Sequence[Generation]) -> None:
    """They are in hand no more."""
    await line.connection.execute(
        "UPDATE generations SET endpoint_id = 'elsewhere' WHERE id = any($1)", ids(generations)
    )


async def served(line: Line, count: int, endpoint_id: str = "shared") -> list[Generation]:
    """So many one after the other, each when the one in hand has ended."""
    turns: list[Generation] = []
    hand: list[Generation] = []
    for _ in range(count):
        next_one = await claimed(line, endpoint_id)
        await ended(line, hand)
        turns += next_one
        hand = next_one
    await ended(line, hand)
    return turns


async def lane_of_crowds(line: Line, count: int, *, cost: int = 1, weight: int = 1) -> list[str]:
    """Its endpoint was closed while the line went on at another; returns whose sixty images each wait in it."""
    named, others = [await line.person(weight=weight) for _ in range(count)], await line.person(weight=weight)
    for _ in range(60):
        for person in named:
            await line.submit(person, kind=Type.IMAGE, wanted="image", cost=cost)
        await line.submit(others, kind=Type.IMAGE, cost=cost)
    await served(line, 60, "own")
    return named


async def lane_that_fell_behind(line: Line, *, cost: int = 1, weight: int = 1) -> str:
    """The same of one person's."""
    (named,) = await lane_of_crowds(line, 1, cost=cost, weight=weight)
    return named


@pytest.mark.parametrize(
    "stuck",
    [
        "wanted_endpoint = 'own'",
        "due_at = now() + interval '30 seconds'",
        "cancel_requested_at = now()",
        "heard_attempt = 1",
        "deadline_at = now()",
    ],
)
async def test_what_cannot_go_there_holds_no_clock(line: Line, stuck: str) -> None:
    """Somebody's second job waits for a crowd of the other type; before it in its line stands what goes nowhere."""
    other, regular, crowd = [await line.person() for _ in range(3)]
    waits = [await line.submit(other, kind=Type.IMAGE) for _ in range(3)]
    await line.connection.execute(f"UPDATE generations SET {stuck} WHERE id = any($1)", ids(waits))  # noqa: S608
    await line.submit(regular, kind=Type.IMAGE, cost=5)
    assert [generation.user_id for generation in await served(line, 1)] == [regular]
    for _ in range(40):
        await line.submit(crowd)
    single = await line.submit(regular, kind=Type.IMAGE, cost=5)
    assert single.id in ids(await served(line, 7)), "it costs as much as five of the crowd's"


@pytest.mark.parametrize("costs", [(1, 1), (4, 1), (1, 4)])
@pytest.mark.parametrize("count", [1, 3])
async def test_a_lane_that_fell_behind_shares_with_another_types_line(
    line: Line, count: int, costs: tuple[int, int]
) -> None:
    """By what each job costs, between all people alike."""
    named, crowd = await lane_of_crowds(line, count, cost=costs[0]), await line.person()
    for _ in range(60):
        await line.submit(crowd, cost=costs[1])
    turns = Counter(generation.user_id for generation in await served(line, 40))
    used = {person: turns[person] * costs[person == crowd] for person in [crowd, *named]}
    assert max(used.values()) - min(used.values()) <= max(costs), used


async def test_whoever_comes_for_another_type_is_before_a_lane_that_fell_behind(line: Line) -> None:
    """Its person has the job in hand."""
    named = await lane_that_fell_behind(line)
    hand = await claimed(line, "shared")
    for _ in range(3):
        assert [generation.user_id for generation in hand] == [named]
        single = await line.submit(await line.person())
        assert ids(await claimed(line, "shared")) == [single.id]
        await ended(line, [*hand, single])
        hand = await claimed(line, "shared")


async def test_who_comes_new_to_a_line_that_lags_there_is_before_a_crowd_of_another_type(line: Line) -> None:
    """Other endpoints served many of theirs meanwhile."""
    crowd, others = await line.person(), await line.person()
    for _ in range(20):
        await line.submit(crowd)
        await line.submit(others, kind=Type.IMAGE, cost=9)
    assert others in {each.user_id for each in await served(line, 3)}
    await served(line, 9, "own")
    assert [each.user_id for each in await served(line, 1)] == [crowd]
    single = await line.submit(await line.person(), kind=Type.IMAGE, cost=9)
    assert ids(await served(line, 1)) == [single.id]


async def test_a_regular_who_names_a_lane_that_fell_behind_is_before_those_who_wait_in_it(line: Line) -> None:
    """Fifty of one person's stand before them there by time, and all of those the clock has passed."""
    regular = await line.person()
    named = await lane_that_fell_behind(line)
    await line.submit(regular, kind=Type.IMAGE)
    assert [each.user_id for each in await served(line, 1, "own")] == [regular]
    other = await line.person()
    for _ in range(5):
        await line.submit(other, kind=Type.IMAGE)
    await served(line, 5, "own")
    hand = await claimed(line, "shared")
    assert [each.user_id for each in hand] == [named]
    single = await line.submit(regular, kind=Type.IMAGE, wanted="image")
    assert single.vstart <= await line.clock(Type.IMAGE)
    assert ids(await claimed(line, "shared")) == [single.id]


async def test_no_claim_holds_those_that_it_does_not_take(line: Line, pool: Pool) -> None:
    """Else a claim at another endpoint would pass over a newcomer, and take one of the crowd's."""
    crowd, first, second = [await line.person() for _ in range(3)]
    for _ in range(20):
        await line.submit(crowd, kind=Type.IMAGE)
    assert [each.user_id for each in await claimed(line, "shared")] == [crowd]
    newcomers = [await line.submit(person, kind=Type.IMAGE) for person in (first, second)]
    async with pool.acquire() as connection, connection.transaction():
        at_own = await claimed(Line(connection), "own")
        at_shared = await claimed(line, "shared")
    assert sorted(ids([*at_own, *at_shared])) == sorted(ids(newcomers))


@pytest.mark.parametrize("wanted", [None, "image"])
async def test_of_two_who_stand_alike_who_has_a_job_there_comes_after(line: Line, wanted: str | None) -> None:
    """Further ahead than the clock, too: else what was sent would be recalled for the other, and sent again."""
    one, two = await line.person(), await line.person()
    before = [await line.submit(person, kind=Type.IMAGE, wanted=wanted) for person in (one, two)]
    theirs, ours = [await line.submit(person, kind=Type.IMAGE, wanted=wanted) for person in (two, one)]
    assert theirs.vstart == ours.vstart > await line.clock(Type.IMAGE) + 1
    await line.connection.execute("UPDATE generations SET cancel_requested_at = now() WHERE id = $1", before[0].id)
    assert ids(await claimed(line, "shared")) == [before[1].id]
    assert ids(await claimed(line, "shared")) == [ours.id]
