"""Types that share endpoints share them by cost, however many places one claim fills."""

from collections import Counter
from collections.abc import Sequence

import pytest

from shared.database import Pool
from shared.generations import Generation, Type
from tests.worker.crowds import ALSO, HERE, crowds, sent, sent_ahead
from tests.worker.line import Line
from tests.worker.test_lines_that_meet import line
from worker.transitions import Endpoint

__all__ = ["line"]


@pytest.mark.parametrize(
    ("costs", "endpoints", "at_once", "jobs"),
    [
        ({Type.TEXT: 1, Type.IMAGE: 1, Type.VIDEO: 20}, 1, 1, 164),
        ({Type.TEXT: 1, Type.IMAGE: 1, Type.VIDEO: 20}, 1, 4, 164),
        ({Type.TEXT: 1, Type.VIDEO: 20}, 5, 1, 168),
        ({Type.TEXT: 1, Type.VIDEO: 20}, 1, 15, 210),
        ({Type.TEXT: 1, Type.VIDEO: 20}, 1, 30, 210),
    ],
)
async def test_a_claim_of_many_places_is_as_fair_as_many_claims(
    line: Line, costs: dict[Type, int], endpoints: int, at_once: int, jobs: int
) -> None:
    names = [f"shared-{number}" for number in range(endpoints)]
    here = [Endpoint(type=kind, name=f"{kind.value}-{name}", endpoint_id=name) for kind in costs for name in names]
    await crowds(line, costs, jobs)
    got: Counter[tuple[str, Type]] = Counter()
    while got.total() < jobs:
        got += await sent(line, here, dict.fromkeys(names, at_once))
    videos = sum(count for (_, kind), count in got.items() if kind is Type.VIDEO)
    due = jobs / sum(costs[Type.VIDEO] / cost for cost in costs.values())
    assert abs(videos - due) <= 1


async def test_what_a_claim_sends_elsewhere_moves_nothing_where_types_meet(line: Line) -> None:
    """Texts have three places of their own besides, filled by the same claim: what goes there is no reason to wait."""
    await crowds(line, {Type.TEXT: 1, Type.VIDEO: 10}, 200)
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(44):
        got += await sent(line, HERE, {"shared": 1, "own": 3})
    assert got["own", Type.TEXT] == 3 * 44
    assert 4 <= got["shared", Type.VIDEO] <= 8, "four are due; one claim for both moves their clock a little more"


@pytest.mark.parametrize("here", [HERE, ALSO], ids=["own", "own-for-images-too"])
@pytest.mark.parametrize("ahead", [False, True], ids=["", "one-ahead"])
@pytest.mark.parametrize(
    ("people", "costs", "at_own"),
    [
        ((1, 1), (1, 1), 2),
        ((2, 1), (1, 1), 1),
        ((2, 1), (1, 10), 1),
        ((2, 2), (1, 1), 1),
        ((2, 2), (1, 10), 3),
        ((3, 1), (1, 1), 3),
        ((3, 5), (1, 1), 1),
        ((2, 1), (10, 1), 1),
        ((2, 3), (10, 1), 3),
    ],
)
async def test_nobody_has_less_than_an_equal_part_though_others_have_an_endpoint_besides(
    line: Line, people: tuple[int, int], costs: tuple[int, int], at_own: int, ahead: bool, here: Sequence[Endpoint]
) -> None:
    """Texts stand alike, and are sent to their own endpoint and to the shared one in the same order all the time."""
    kinds = (Type.TEXT, Type.VIDEO)
    cost = dict(zip(kinds, costs, strict=True))
    await crowds(line, cost, 100, dict(zip(kinds, people, strict=True)))
    got: Counter[tuple[str, Type]] = Counter()
    hand: list[Generation] = []
    for _ in range(33):
        for _ in range(at_own):
            got += await sent(line, here, {"own": 1})
        got += await sent_ahead(line, here, hand) if ahead else await sent(line, here, {"shared": 1})
    assert got["shared", Type.TEXT] + got["shared", Type.VIDEO] == 33
    due = sum(got["shared", kind] * cost[kind] for kind in kinds) / sum(people)
    texts = (got["own", Type.TEXT] + got["shared", Type.TEXT]) * cost[Type.TEXT] / people[0]
    videos = got["shared", Type.VIDEO] * cost[Type.VIDEO] / people[1]
    assert texts >= due - cost[Type.TEXT], "one job may be on its way to each"
    assert videos >= due - cost[Type.VIDEO]
    if max(costs) == 1:
        assert videos <= texts + 2, "who has nothing else gets more of it, until they have as much"


async def test_what_somebody_else_was_served_is_no_reason_to_wait(line: Line) -> None:
    """Dear videos were served at the shared endpoint, and then at their own; who comes with cheap ones does not pay."""
    here = [*HERE[1:], Endpoint(type=Type.VIDEO, name="own", endpoint_id="own")]
    await crowds(line, {Type.VIDEO: 200}, 8, {Type.VIDEO: 2})
    for _ in range(3):
        await sent(line, here, {"shared": 1})
    while await sent(line, here, {"own": 1}):
        pass
    await crowds(line, {Type.TEXT: 1, Type.VIDEO: 1}, 12)
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(12):
        got += await sent(line, here, {"shared": 1})
    assert 5 <= got["shared", Type.VIDEO] <= 7


async def test_a_claim_elsewhere_that_takes_its_time_takes_nothing_from_others(line: Line, pool: Pool) -> None:
    """It holds the clock of the texts while one is sent to the shared endpoint."""
    await crowds(line, {Type.TEXT: 1, Type.VIDEO: 1}, 90, {Type.TEXT: 2})
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(24):
        async with pool.acquire() as connection, connection.transaction():
            await sent(Line(connection), HERE, {"own": 1})
            got += await sent(line, HERE, {"shared": 1})
    assert 8 <= got["shared", Type.VIDEO] <= 18, "with 16 everybody has as much"


async def among_crowds(line: Line, places: int = 7) -> None:
    """Both endpoints have been busy with several people's crowds for a while."""
    await crowds(line, {Type.TEXT: 1, Type.VIDEO: 1}, 60, {Type.TEXT: 3, Type.VIDEO: 3})
    for _ in range(places):
        await sent(line, HERE, {"own": 1})
        await sent(line, HERE, {"shared": 1})


@pytest.mark.parametrize("kind", [Type.TEXT, Type.VIDEO])
@pytest.mark.parametrize("places", range(5, 9))
async def test_whoever_comes_is_before_all_crowds_that_stand_alike(line: Line, kind: Type, places: int) -> None:
    """Also before those whose turn it is."""
    await among_crowds(line, places)
    theirs = [await line.submit(await line.person(), kind=kind) for _ in range(2)]
    for single in theirs:
        await sent(line, HERE, {"shared": 1})
        state = await line.connection.fetchval("SELECT state::text FROM generations WHERE id = $1", single.id)
        assert state == "submitting"


async def test_who_had_much_elsewhere_waits_for_no_more_than_one_job_of_it(line: Line) -> None:
    """Then their own endpoint is closed: they have their part of the other at once."""
    await among_crowds(line)
    for _ in range(30):
        await sent(line, HERE, {"own": 1})
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(12):
        got += await sent(line, HERE, {"shared": 1})
    assert 5 <= got["shared", Type.TEXT] <= 7


async def test_who_was_not_there_gets_nothing_for_it(line: Line) -> None:
    """Texts had the shared endpoint to themselves for long; then videos come."""
    await crowds(line, {Type.TEXT: 1}, 60, {Type.TEXT: 2})
    for _ in range(40):
        await sent(line, HERE, {"own": 1})
        await sent(line, HERE, {"shared": 1})
    await crowds(line, {Type.VIDEO: 1}, 30, {Type.VIDEO: 2})
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(16):
        got += await sent(line, HERE, {"shared": 1})
    assert 6 <= got["shared", Type.TEXT] <= 8, "two come new, and are first"
