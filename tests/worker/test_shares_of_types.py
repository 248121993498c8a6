"""Types that share endpoints share them by cost, however many places one claim fills."""

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import uuid4

import pytest

from shared.generations import Type
from tests.worker.line import MINUTE, Line
from tests.worker.test_lines_that_meet import ended, line
from worker.line import claim
from worker.places import Deal
from worker.settings import MOST_JOBS
from worker.transitions import Endpoint

__all__ = ["line"]


async def crowds(line: Line, costs: Mapping[Type, int], jobs: int) -> None:
    """One person's of each type, who could have every place."""
    for kind, cost in costs.items():
        person = await line.person()
        for _ in range(jobs):
            await line.submit(person, kind=kind, cost=cost)


async def sent(line: Line, here: Sequence[Endpoint], places: Mapping[str, int]) -> Counter[tuple[str, Type]]:
    """Whom one claim sends where, when so many places have come free; they end at once."""
    deal = Deal(
        token=uuid4(),
        slots=sum(places.values()),
        limits=dict.fromkeys(places, MOST_JOBS),
        waiting=Counter(dict.fromkeys(places, MOST_JOBS)),
        most=Counter({place.type: sum(places.values()) for place in here}),
        draws=[place for place in here for _ in range(places.get(place.endpoint_id, 0))],
        room=Counter(places),
    )
    claimed = await claim(line.connection, deal, endpoints=here, lease=MINUTE)
    await ended(line, claimed)
    return Counter((str(generation.endpoint_id), generation.type) for generation in claimed)


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
    here = [
        Endpoint(type=Type.TEXT, name="own", endpoint_id="own"),
        Endpoint(type=Type.TEXT, name="text", endpoint_id="shared"),
        Endpoint(type=Type.VIDEO, name="video", endpoint_id="shared"),
    ]
    await crowds(line, {Type.TEXT: 1, Type.VIDEO: 10}, 200)
    got: Counter[tuple[str, Type]] = Counter()
    for _ in range(44):
        got += await sent(line, here, {"shared": 1, "own": 3})
    assert got["own", Type.TEXT] == 3 * 44
    assert 4 <= got["shared", Type.VIDEO] <= 8, "four are due; one claim for both moves their clock a little more"
