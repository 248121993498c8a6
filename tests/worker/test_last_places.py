"""Who had the last places at an endpoint comes after whoever had none there while they waited; who counts as that."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from shared import generations, ledger
from shared.generations import Generation, Type
from tests.worker.crowds import placed
from tests.worker.line import DAY, PRICE, Line, ids
from tests.worker.test_lines_that_meet import claimed, ended, lane_of_crowds, lane_that_fell_behind, line, served
from worker import transitions
from worker.transitions import Endpoint

__all__ = ["line"]

AT_ANOTHER = """
UPDATE generations SET state = 'submitted', endpoint_id = 'own', remote_id = 'r', submitted_at = now(), attempt = 1
WHERE id = $1
"""


@pytest.mark.parametrize(("kind", "wanted"), [(Type.TEXT, None), (Type.IMAGE, None), (Type.IMAGE, "image")])
async def test_whoever_comes_is_before_a_crowd_whose_job_has_just_ended(
    line: Line, kind: Type, wanted: str | None
) -> None:
    """Where one runs at once, none of theirs is in hand when the next place is given away."""
    crowds = await lane_of_crowds(line, 3)
    assert {each.user_id for each in await served(line, 3)} == set(crowds)
    for _ in range(8):
        single = await line.submit(await line.person(), kind=kind, wanted=wanted)
        assert ids(await served(line, 1)) == [single.id]
        assert {each.user_id for each in await served(line, 1)} <= set(crowds)


async def test_who_stands_just_before_the_clock_is_before_a_crowd_that_it_has_passed(line: Line) -> None:
    named = await lane_that_fell_behind(line)
    assert [each.user_id for each in await served(line, 1)] == [named]
    single = await line.submit(await line.person(), kind=Type.IMAGE, wanted="image")
    ahead = "UPDATE generations SET vstart = $2 WHERE id = $1"
    await line.connection.execute(ahead, single.id, await line.clock(Type.IMAGE) + 1)
    assert ids(await served(line, 1)) == [single.id]


async def put_between(line: Line, single: Generation, named: str) -> None:
    """Its turn is after somebody's next one, and before all others of theirs."""
    await line.connection.execute(
        """
        UPDATE generations SET vstart = 1 + (
            SELECT min(vstart) FROM generations WHERE user_id = $2 AND state = 'reserved'
        )
        WHERE id = $1
        """,
        single.id,
        named,
    )


@pytest.mark.parametrize("ahead", ["0", "1 hour"])
async def test_who_had_a_place_before_they_came_again_comes_new(line: Line, ahead: str) -> None:
    """Also when the database's clock ran ahead meanwhile."""
    regular, other, named = await line.person(), await line.person(), await lane_that_fell_behind(line)
    await line.submit(regular, kind=Type.IMAGE, wanted="image")
    turns = [each.user_id for each in await served(line, 3)]
    assert turns.count(regular) == 1
    await line.connection.execute(
        """
        UPDATE generation_attempts AS a SET started_at = a.started_at + $2::text::interval
        FROM generations AS g WHERE a.generation_id = g.id AND g.user_id = $1
        """,
        regular,
        ahead,
    )
    for _ in range(5):
        await line.submit(other, kind=Type.IMAGE)
    await served(line, 5, "own")
    single = await line.submit(regular, kind=Type.IMAGE, wanted="image")
    await put_between(line, single, named)
    assert [each.user_id for each in await served(line, 2)] == [regular, named]


@pytest.mark.parametrize("outcome", ["not_sent", "refused", "recalled"])
async def test_what_came_to_nothing_was_no_place(line: Line, outcome: str) -> None:
    named = await lane_that_fell_behind(line)
    assert [each.user_id for each in await served(line, 1)] == [named]
    single = await line.submit(await line.person(), kind=Type.IMAGE, wanted="image")
    await put_between(line, single, named)
    (sent,) = await claimed(line, "shared")
    assert sent.id == single.id
    await line.give_back(sent)
    came_to = "UPDATE generation_attempts SET outcome = $2 WHERE generation_id = $1"
    await line.connection.execute(came_to, sent.id, outcome)
    assert ids(await claimed(line, "shared")) == [single.id]


async def overtaken(line: Line, single: Generation) -> int:
    """Somebody new comes before each place; how many of them go before it."""
    for count in range(80):
        await line.submit(await line.person(), kind=Type.IMAGE)
        if single.id in ids(await served(line, 1)):
            return count
    pytest.fail("it is never its turn")


async def time_passes(line: Line) -> None:
    """The clock passes what somebody used a while ago."""
    other = await line.person()
    for _ in range(8):
        await line.submit(other, kind=Type.IMAGE)
    await served(line, 8)


async def tried_again(line: Line, generation: Generation) -> None:
    """Somebody asks for it once more."""
    row = await line.connection.fetchrow("SELECT * FROM generations WHERE id = $1", generation.id)
    assert row is not None
    async with line.connection.transaction():
        held = await ledger.reserve(
            line.connection,
            user_id=generation.user_id,
            key=f"again:{generation.id}",
            generation_id=generation.id,
            amount=1,
            expires_at=datetime.now(UTC) + DAY,
            price=PRICE,
        )
        assert held.hold_id is not None
        await generations.retry(
            line.connection,
            Generation.from_row(row),
            hold_id=held.hold_id,
            price_version=row["price_version"],
            quoted=1,
            retried_by="test",
            actor="test",
        )


async def test_of_what_was_sent_and_waits_again_nobody_had_a_place(line: Line) -> None:
    """RunPod may not have heard of it."""
    single = await line.submit(await line.person(), kind=Type.IMAGE)
    (sent,) = await claimed(line, "shared")
    await transitions.return_to_reserved(
        line.connection, sent, outcome="unknown", reason="test", wait=timedelta(0), actor="test"
    )
    assert await overtaken(line, single) <= 1


@pytest.mark.parametrize("another", [False, True])
async def test_what_is_tried_again_comes_new(line: Line, another: bool) -> None:
    """It was asked for, and another one, before they had their places."""
    person = await line.person()
    single = await line.submit(person, kind=Type.IMAGE)
    (failed,) = await claimed(line, "shared")
    await line.finish(failed)
    if another:
        await line.submit(person, kind=Type.IMAGE)
        while person not in {each.user_id for each in await served(line, 1)}:
            pass
    await time_passes(line)
    await tried_again(line, single)
    assert await overtaken(line, single) <= 1


async def test_a_crowd_that_was_tried_again_is_a_crowd(line: Line) -> None:
    """Somebody else's that is tried again meanwhile changes nothing."""
    crowd, other = await line.person(), await line.submit(await line.person(), kind=Type.IMAGE)
    for sent in await served(line, 1):
        await line.finish(sent)
    many = [await line.submit(crowd, kind=Type.IMAGE) for _ in range(4)]
    for sent in await served(line, 4):
        await line.finish(sent)
    for each in many:
        await tried_again(line, each)
    await line.connection.execute("UPDATE generations SET vstart = 0 WHERE id = any($1)", ids(many))
    assert [each.user_id for each in await served(line, 1)] == [crowd]
    await tried_again(line, other)
    assert ids(await served(line, 1)) == [other.id]
    assert [each.user_id for each in await served(line, 1)] == [crowd]
    single = await line.submit(await line.person(), kind=Type.IMAGE)
    assert ids(await served(line, 1)) == [single.id]


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        (Type.IMAGE, "UPDATE generations SET wanted_endpoint = 'own' WHERE id = $1"),
        (Type.IMAGE, AT_ANOTHER),
        (Type.IMAGE, "UPDATE generations SET cancel_requested_at = now() WHERE id = $1"),
        (Type.TEXT, "UPDATE generations SET due_at = now() + interval '1 hour' WHERE id = $1"),
    ],
    ids=["names another", "is at another", "is cancelled", "is another type"],
)
async def test_what_cannot_go_there_has_not_waited_for_it(line: Line, kind: Type, becomes: str) -> None:
    person = await line.person()
    elsewhere = await line.submit(person, kind=kind)
    await line.connection.execute(becomes, elsewhere.id)
    await line.submit(person, kind=Type.IMAGE)
    assert [each.user_id for each in await served(line, 1)] == [person]
    await time_passes(line)
    assert await overtaken(line, await line.submit(person, kind=Type.IMAGE)) <= 1


@pytest.mark.parametrize("kind", [Type.TEXT, Type.IMAGE])
async def test_places_at_one_endpoint_are_none_at_another(line: Line, kind: Type) -> None:
    """Of two that are claimed for at once: somebody's crowd has one, and a single one of theirs wants the other."""
    here = [
        Endpoint(type=kind, name="fast", endpoint_id="fast"),
        Endpoint(type=Type.IMAGE, name="image", endpoint_id="shared"),
    ]
    named, person = await lane_that_fell_behind(line), await line.person()
    for _ in range(40):
        await line.submit(person, kind=kind, wanted="fast")
    for _ in range(3):
        await ended(line, await placed(line, here, {"fast": 1, "shared": 1}))
    single = await line.submit(person, kind=Type.IMAGE, wanted="image")
    await put_between(line, single, named)
    assert single.id in ids(await placed(line, here, {"fast": 1, "shared": 1}))


async def test_who_has_many_of_another_type_elsewhere_comes_new_here(line: Line) -> None:
    """Also where a crowd that goes anywhere stands before them in time."""
    crowd, person = await line.person(), await line.person()
    for _ in range(5):
        await line.submit(crowd, kind=Type.IMAGE)
    for _ in range(10):
        await line.submit(person)
    here = [
        Endpoint(type=Type.TEXT, name="text", endpoint_id="texts"),
        Endpoint(type=Type.IMAGE, name="image", endpoint_id="shared"),
    ]
    await line.connection.execute("UPDATE generations SET vstart = 0 WHERE user_id = $1", crowd)
    for _ in range(2):
        await ended(line, await placed(line, here, {"texts": 1, "shared": 1}))
    single = await line.submit(person, kind=Type.IMAGE)
    assert single.id in ids(await placed(line, here, {"texts": 1, "shared": 1}))


async def test_lanes_take_turns_at_the_places_that_one_claim_fills(line: Line) -> None:
    """Nobody had one, and the clock has passed them all."""
    for wanted in (None, "image"):
        for _ in range(4):
            await line.submit(await line.person(), kind=Type.IMAGE, wanted=wanted)
    await line.connection.execute("UPDATE queue_clock SET vtime = vtime + 10 ^ 9 WHERE type = 'image'")
    here = [Endpoint(type=Type.IMAGE, name="image", endpoint_id="shared")]
    for _ in range(2):
        claimed_ = await placed(line, here, {"shared": 4})
        assert Counter(each.wanted_endpoint for each in claimed_) == {None: 2, "image": 2}
