"""Who is next: weighted shares within one job's cost, newcomers at once, and one person's crowd in nobody's way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from uuid import uuid4

import pytest

from shared.database import Pool
from shared.generations import CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, Type
from tests.worker.line import MINUTE, Line, ids
from worker.line import claim
from worker.places import Deal
from worker.settings import MOST_JOBS
from worker.transitions import Endpoint

CROWD = 1000


@pytest.fixture
async def line(pool: Pool) -> AsyncIterator[Line]:
    """Idle lines."""
    async with pool.acquire() as connection:
        opened = Line(connection)
        await opened.empty()
        yield opened


async def test_one_persons_thousand_jobs_delay_anothers_by_no_more_than_the_job_in_hand(line: Line, pool: Pool) -> None:
    """One slot, never idle, while somebody goes on submitting a thousand: another's single job is the next."""
    crowd, single = await line.person(), await line.person()
    claimed: list[tuple[float, str]] = []
    now = asyncio.get_running_loop().time
    waiting = asyncio.Event()

    async def submit_crowd() -> None:
        async with pool.acquire() as connection:
            for number in range(CROWD):
                await Line(connection).submit(crowd)
                if number == CROWD // 4:
                    waiting.set()

    async def work() -> None:
        async with pool.acquire() as connection:
            while single not in (user_id for _, user_id in claimed):
                started = now()
                claimed.extend((started, generation.user_id) for generation in await Line(connection).claim(1))

    crowding = asyncio.create_task(submit_crowd())
    await waiting.wait()
    working = asyncio.create_task(work())
    while not claimed:
        await asyncio.sleep(0)
    await line.submit(single)
    submitted = now()
    await working
    assert not crowding.done(), "the crowd was over before the single one came"
    crowding.cancel()
    await asyncio.gather(crowding, return_exceptions=True)
    assert len(claimed) > 1
    after = [user_id for started, user_id in claimed if started > submitted]
    assert after in ([single], []), f"{len(after) - 1} of the crowd were sent first"


async def test_who_keeps_the_line_busy_shares_it_by_weight(line: Line) -> None:
    """Over any stretch in which all wait: what each got, by weight, is equal within the cost of a job of each."""
    costs = {await line.person(weight=weight): cost for weight, cost in ((1, 3), (2, 10), (5, 1))}
    weights = dict(zip(costs, (1, 2, 5), strict=True))
    for user_id, cost in costs.items():
        for _ in range(60 * weights[user_id] // cost + 5):
            await line.submit(user_id, cost=cost)
    served: list[dict[str, float]] = [dict.fromkeys(costs, 0.0)]
    for _ in range(100):
        [generation] = await line.claim(1)
        user_id = generation.user_id
        served.append({**served[-1], user_id: served[-1][user_id] + costs[user_id] / weights[user_id]})
    assert all(served[-1].values())
    for start in range(len(served)):
        for end in range(start, len(served)):
            got = {user_id: served[end][user_id] - served[start][user_id] for user_id in costs}
            for one, other in pairwise([*costs, next(iter(costs))]):
                allowed = costs[one] / weights[one] + costs[other] / weights[other]
                assert abs(got[one] - got[other]) <= allowed + 1e-6, f"from {start} to {end}"


async def test_nobody_pays_later_for_what_they_did_while_nobody_waited(line: Line) -> None:
    busy, other = await line.person(), await line.person()
    for _ in range(20):
        await line.submit(busy, cost=10)
        await line.claim(1)
    for _ in range(5):
        await line.submit(other, cost=10)
        await line.submit(busy, cost=10)
    turns = [generation.user_id for generation in await line.claim(10)]
    assert turns[:4].count(busy) >= 1, "who was busy waits for all of who comes new"
    assert turns[:5].count(busy) >= 2


async def test_anothers_videos_say_nothing_about_ones_text(line: Line) -> None:
    """A line of its own for each type: the clock of one is not moved by another, and nor is a person's place."""
    crowd, single = await line.person(), await line.person()
    for _ in range(30):
        await line.submit(crowd, cost=10, kind=Type.VIDEO)
    text = await line.submit(crowd)
    for _ in range(30):
        await line.submit(single)
    assert text.id in ids(await line.claim(2, kinds=[Type.TEXT])), "one's own videos stand before one's text"
    video = await line.submit(single, cost=10, kind=Type.VIDEO)
    assert video.id in ids(await line.claim(2, kinds=[Type.VIDEO])), "a text that was sent moved the line of videos"


@pytest.mark.parametrize(("wanted", "other"), [("text", None), (None, "text")])
async def test_who_wants_an_endpoint_by_name_is_in_the_same_line(
    line: Line, wanted: str | None, other: str | None
) -> None:
    crowd, single = await line.person(), await line.person()
    for _ in range(10):
        await line.submit(crowd, wanted=wanted)
    for _ in range(3):
        assert [generation.user_id for generation in await line.claim(1)] == [crowd]
        await line.submit(single, wanted=other)
        assert [generation.user_id for generation in await line.claim(1)] == [single]


async def test_one_that_could_not_be_sent_keeps_its_place(line: Line) -> None:
    person, other = await line.person(), await line.person()
    first = await line.submit(person)
    await line.submit(person)
    [sent] = await line.claim(1)
    returned = await line.give_back(sent)
    assert (returned.id, returned.vstart) == (first.id, first.vstart)
    await line.submit(other)
    assert ids(await line.claim(1)) == [first.id]


@pytest.mark.parametrize("came", ["meanwhile", "later"])
@pytest.mark.parametrize("taken", [0, 7])
@pytest.mark.parametrize("wanted", [None, "text"])
async def test_a_crowd_that_is_turned_away_stands_before_nobody_with_more_than_one(
    line: Line, wanted: str | None, taken: int, came: str
) -> None:
    """RunPod takes few or none of many that were claimed together: they were not served and are owed no lead."""
    crowd, single = await line.person(), await line.person()
    for _ in range(60):
        await line.submit(crowd, wanted=wanted)
    claimed = await line.claim(40)
    alone = await line.submit(single, wanted=wanted) if came == "meanwhile" else None
    for generation in claimed[: len(claimed) - taken]:
        await line.give_back(generation)
    alone = alone or await line.submit(single, wanted=wanted)
    assert alone.id in ids([*await line.claim(1), *await line.claim(1)])
    turns = [generation.id for _ in range(60 - taken - 1) for generation in await line.claim(1)]
    assert len(set(turns)) == 60 - taken - 1, "somebody was lost from the line"


async def test_one_that_is_turned_away_again_and_again_stays_first(line: Line) -> None:
    """The clock passed it while it was away: it stands where who comes new starts, and came before them."""
    person, crowd = await line.person(), await line.person()
    for _ in range(30):
        await line.submit(crowd)
    alone = await line.submit(person)
    [first, sent] = await line.claim(2)
    assert {first.user_id, sent.user_id} == {crowd, person}
    sent = sent if sent.id == alone.id else first
    for _ in range(3):
        await line.claim(5)
        returned = await line.give_back(sent)
        assert returned.vstart == await line.clock()
        newcomer = await line.person()
        await line.submit(newcomer)
        [sent] = await line.claim(1)
        assert sent.id == alone.id


@pytest.mark.parametrize("wanted", [None, "text"])
@pytest.mark.parametrize("said", ["cancel_requested_at = now()", "heard_attempt = 1", "deadline_at = now()"])
async def test_what_is_for_the_sweep_is_not_sent(line: Line, said: str, wanted: str | None) -> None:
    """Its person cancelled it, RunPod has it after all, or it is too late: the sweep settles or adopts it."""
    transaction = line.connection.transaction()
    await transaction.start()
    try:
        person = await line.person()
        passed_over, next_one = [await line.submit(person, wanted=wanted) for _ in range(2)]
        await line.connection.execute(f"UPDATE generations SET {said} WHERE id = $1", passed_over.id)  # noqa: S608
        assert ids(await line.claim(10)) == [next_one.id]
    finally:
        await transaction.rollback()


async def test_no_price_runs_a_line_out_of_numbers(line: Line) -> None:
    person = await line.person()
    dear = [await line.submit(person, cost=10**11) for _ in range(2)]
    assert dear[1].vstart - dear[0].vstart == LONGEST_IN_LINE_CREDITS * CREDIT_IN_LINE


async def test_no_claim_waits_for_the_clock(line: Line, pool: Pool) -> None:
    """Another worker holds the line's clock: the claim goes on without it."""
    person = await line.person()
    before = await line.clock()
    await line.submit(person)
    await line.submit(person)
    async with pool.acquire() as elsewhere, elsewhere.transaction():
        await elsewhere.execute("UPDATE queue_clock SET vtime = vtime + 0")
        async with asyncio.timeout(20):
            assert len(await line.claim(2)) == 2
    assert await line.clock() == before, "and it is behind by what that claim took, no more"
    await line.submit(person)
    await line.claim(1)
    assert await line.clock() == before + 2 * CREDIT_IN_LINE - 1, "just before the one that was sent"


async def test_who_comes_new_to_an_endpoint_that_fell_behind_joins_it_where_it_is(line: Line) -> None:
    """The endpoint was closed, a crowd waits for it, and the line went on."""
    crowd, others = await line.person(), await line.person()
    for _ in range(30):
        await line.submit(crowd, wanted="closed")
        await line.submit(others)
    for _ in range(20):
        await line.claim_at({"open": 1, "closed": 0}, anywhere={"open"})
    single = await line.submit(await line.person(), wanted="closed")
    sent = [generation for _ in range(2) for generation in await line.claim_at({"closed": 1})]
    assert single.id in ids(sent), "it stands behind what was closed out, not behind its head"


async def test_what_was_closed_out_does_not_make_up_for_it(line: Line) -> None:
    """Its endpoint is open again, with more places than there are slots: a newcomer elsewhere waits for one of it."""
    crowd, others = await line.person(), await line.person()
    for _ in range(30):
        await line.submit(crowd, wanted="closed")
        await line.submit(others)
    for _ in range(20):
        await line.claim_at({"open": 1, "closed": 0}, anywhere={"open"})
    single = await line.submit(await line.person())
    sent = [
        generation
        for _ in range(15)  # chance decides whose turn is first
        for generation in await line.claim_at({"closed": 50, "open": 50}, anywhere={"open"}, most=1)
    ]
    assert single.id in ids(sent)
    assert len(ids(sent)) == 15
    assert sum(generation.user_id == crowd for generation in sent) > 1, "and it is not kept waiting either"


async def test_naming_an_endpoint_buys_no_larger_share_of_it(line: Line) -> None:
    """Ten people of equal weight at one endpoint; one of them names it."""
    people = [await line.person() for _ in range(9)]
    naming = await line.person()
    for _ in range(10):
        for person in people:
            await line.submit(person)
        await line.submit(naming, wanted="text")
    sent = [generation.user_id for _ in range(20) for generation in await line.claim(2, kinds=[Type.TEXT])]
    assert sent.count(naming) in (4, 5), "a tenth of forty, within one"


async def test_types_that_meet_at_one_endpoint_take_turns_however_far_their_lines_are(line: Line) -> None:
    """Both were dealt its last place. The clock of one says nothing of the other."""
    texts, pictures = await line.person(), await line.person()
    ahead = 1000 * CREDIT_IN_LINE
    await line.connection.execute("UPDATE queue_clock SET vtime = vtime + $1 WHERE type = 'image'", ahead)
    for _ in range(24):
        await line.submit(texts)
        await line.submit(pictures, kind=Type.IMAGE)
    here = [Endpoint(type=kind, name=kind.value, endpoint_id="shared") for kind in (Type.TEXT, Type.IMAGE)]
    sent: list[Type] = []
    for _ in range(24):
        deal = Deal(
            token=uuid4(),
            slots=1,
            limits={"shared": MOST_JOBS},
            waiting=Counter({"shared": 2}),
            most=Counter({Type.TEXT: 1, Type.IMAGE: 1}),
            draws=list(here),
            room=Counter({"shared": 1}),
        )
        [generation] = await claim(line.connection, deal, endpoints=here, lease=MINUTE)
        sent.append(generation.type)
    assert all(one is not other for one, other in zip(sent[::2], sent[1::2], strict=True))
