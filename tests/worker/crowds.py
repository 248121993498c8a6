"""Crowds of several types at endpoints that some of them share."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import uuid4

from shared.generations import Generation, Type
from tests.worker.line import MINUTE, Line
from tests.worker.test_lines_that_meet import ended
from worker.capacity import LEAST
from worker.line import claim
from worker.places import Deal
from worker.settings import MOST_JOBS
from worker.transitions import Endpoint

HERE = [
    Endpoint(type=Type.TEXT, name="own", endpoint_id="own"),
    Endpoint(type=Type.TEXT, name="text", endpoint_id="shared"),
    Endpoint(type=Type.VIDEO, name="video", endpoint_id="shared"),
]
"""Texts have an endpoint of their own besides."""
ALSO = [*HERE, Endpoint(type=Type.IMAGE, name="image", endpoint_id="own")]
"""It takes images as well, of which there are none."""


async def crowds(line: Line, costs: Mapping[Type, int], jobs: int, people: Mapping[Type, int] | None = None) -> None:
    """Of so many people of each type, one of each if nothing is said; each could have every place.

    They come side by side: all people of a type stand alike.
    """
    those = [(kind, await line.person()) for kind in costs for _ in range((people or {}).get(kind, 1))]
    for _ in range(jobs):
        for kind, person in those:
            await line.submit(person, kind=kind, cost=costs[kind])


async def placed(
    line: Line, here: Sequence[Endpoint], places: Mapping[str, int], *, learnt: Collection[str] = ()
) -> list[Generation]:
    """Whom one claim sends, when so many places have come free; where a limit is `learnt` one runs, and one follows."""
    deal = Deal(
        token=uuid4(),
        slots=sum(places.values()),
        limits={name: LEAST if name in learnt else MOST_JOBS for name in places},
        learnt=learnt,
        waiting=Counter(dict.fromkeys(places, MOST_JOBS)),
        most=Counter({place.type: sum(places.values()) for place in here}),
        draws=[place for place in here for _ in range(places.get(place.endpoint_id, 0))],
        room=Counter(places),
    )
    return await claim(line.connection, deal, endpoints=here, lease=MINUTE)


async def sent(line: Line, here: Sequence[Endpoint], places: Mapping[str, int]) -> Counter[tuple[str, Type]]:
    """Whom one claim sends where; they end at once."""
    claimed = await placed(line, here, places)
    await ended(line, claimed)
    return Counter((str(generation.endpoint_id), generation.type) for generation in claimed)


async def sent_ahead(line: Line, here: Sequence[Endpoint], hand: list[Generation]) -> Counter[tuple[str, Type]]:
    """The job in hand at the shared endpoint ends, what was sent ahead begins, and one more is sent."""
    await ended(line, hand[:-1])
    del hand[:-1]
    claimed = await placed(line, here, {"shared": 1}, learnt=["shared"])
    hand += claimed
    return Counter((str(generation.endpoint_id), generation.type) for generation in claimed)
