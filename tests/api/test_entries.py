"""What moved a person's credits, in their terms: it adds up, it is theirs alone, and it is found by filters."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from api import lines
from api.lines import Wanted
from shared import corrections
from tests.api.conftest import Caller, World
from tests.api.histories import random_history
from tests.ledger.teller import Teller, fresh


async def listed(person: Caller, **wanted: Any) -> dict[str, Any]:
    reply = await person("GET", "/v1/credits/entries", params=wanted)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def every(person: Caller, **wanted: Any) -> list[dict[str, Any]]:
    """All of it, page by page, the way a client follows the cursors."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(person, **wanted, **cursor)
        found += page["data"]
        if not page["has_more"]:
            assert page["next_cursor"] is None
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_a_generation_in_the_books(world: World) -> None:
    person = await world.person(granted=3, overdraft_limit=10)
    generation_id = uuid4()
    async with world.pool.acquire() as connection:
        teller = Teller(connection, person.user_id, datetime.now(UTC))
        held = await teller.reserve(5, generation_id=generation_id)
        assert held.hold_id is not None
        await teller.capture(held.hold_id, 4)
    told = [
        (entry["kind"], entry["description"], entry["amount"], entry["held_change"], entry["balance"], entry["held"])
        for entry in reversed(await every(person))
    ]
    assert told == [
        ("grant", "Received: promotional credits", 3, 0, 3, 0),
        ("reserve", "Held for a generation", 0, 3, 3, 3),
        ("reserve", "Held for a generation, lent to you", 0, 2, 3, 5),
        ("capture", "Charged for a generation", -3, -3, 0, 2),
        ("capture", "Charged for a generation, lent to you", -1, -1, -1, 1),
        ("release", "Returned from a generation", 0, -1, -1, 0),
    ]
    [grant, *rest] = reversed(await every(person))
    assert (grant["source_ref"], grant["generation_id"]) == ("s", None)
    assert {entry["generation_id"] for entry in rest} == {str(generation_id)}
    assert {entry["source_ref"] for entry in rest} == {None}


async def test_corrections_say_why(world: World) -> None:
    person = await world.person(granted=10)
    async with world.pool.acquire() as connection:
        who: dict[str, Any] = {"user_id": person.user_id, "actor": "staff"}
        await corrections.adjust(connection, key="a", amount=5, reason="we were slow", **who)
        await corrections.adjust(connection, key="b", amount=-2, reason="typed too much", **who)
        await corrections.reverse_grant(
            connection, kind="promo", source_ref="s", amount=None, reason="not theirs", **who
        )
    told = [(entry["description"], entry["reason"], entry["amount"]) for entry in await every(person)]
    assert told == [
        ("Taken back: promotional credits", "not theirs", -8),
        ("Correction: taken", "typed too much", -2),
        ("Correction: given", "we were slow", 5),
        ("Received: promotional credits", None, 10),
    ]
    assert "staff" not in (await person("GET", "/v1/credits/entries")).text


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happened_the_lines_add_up_and_pages_lose_nothing(world: World, seed: int) -> None:
    random = Random(seed)
    async with world.pool.acquire() as connection:
        teller = await random_history(connection, random)
    person = Caller(world, teller.user_id)
    entries = await every(person, limit=7)
    assert [entry["seq"] for entry in entries] == list(range(len(entries), 0, -1))
    balance = held = 0
    for entry in reversed(entries):
        balance, held = balance + entry["amount"], held + entry["held_change"]
        assert (balance, held) == (entry["balance"], entry["held"])
        assert "{" not in entry["description"]
    wanted = random.sample(["grant", "reserve", "capture", "expire"], 2)
    assert await every(person, kind=wanted, limit=3) == [entry for entry in entries if entry["kind"] in wanted]
    since, until = sorted(random.sample([entry["at"] for entry in entries], 2))
    between = await every(person, **{"from": since, "to": until, "limit": 5})
    assert between == [entry for entry in entries if since <= entry["at"] < until]
    for entry in random.sample(entries, 5):
        books = (await person("GET", "/v1/credits/balance", params={"at": entry["at"]})).json()
        last = next(other for other in entries if other["at"] <= entry["at"])
        assert (books["seq"], books["balance"], books["held"]) == (last["seq"], last["balance"], last["held"])
        assert books["basis"] == "books"


async def test_the_entries_of_one_generation(world: World) -> None:
    person, stranger = await world.person(granted=50), await world.person(granted=50)
    first, second = [(await person.submit(type="image")).json()["id"] for _ in range(2)]
    assert [entry["generation_id"] for entry in await every(person, generation_id=first)] == [first]
    assert await every(stranger, generation_id=second) == []
    assert await every(person, generation_id=str(uuid4())) == []


async def test_the_next_page_has_an_address(world: World) -> None:
    person = await world.person(granted=50)
    for _ in range(3):
        await person.submit()
    reply = await person(
        "GET", "/v1/credits/entries", params={"kind": "reserve", "limit": 2, "from": "2020-01-01T00:00:00+01:00"}
    )
    address = reply.headers["link"].removeprefix("<").partition(">")[0]
    assert reply.headers["link"].endswith('; rel="next"')
    onward = await person("GET", address)
    assert len(onward.json()["data"]) == 1
    assert "link" not in onward.headers


async def test_a_cursor_is_good_for_one_person_and_one_list(world: World) -> None:
    person, stranger = await world.person(granted=50), await world.person(granted=50)
    for caller in (person, stranger):
        await caller.submit()
        await caller.submit()
    cursor = (await listed(person, limit=1))["next_cursor"]
    generations = (await person("GET", "/v1/generations", params={"limit": 1})).json()["next_cursor"]
    for caller, wanted in (
        (stranger, {"cursor": cursor}),
        (person, {"cursor": cursor, "kind": "grant"}),
        (person, {"cursor": cursor, "from": "2020-01-01T00:00:00Z"}),
        (person, {"cursor": cursor[:-2]}),
        (person, {"cursor": generations}),
        (person, {"cursor": "1"}),
    ):
        reply = await caller("GET", "/v1/credits/entries", params=wanted)
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid-cursor"), wanted
    reply = await person("GET", "/v1/generations", params={"cursor": cursor})
    assert reply.status_code == 400


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "grant' OR '1'='1"},
        {"kind": "GRANT"},
        {"kind": ["grant"] * 10},
        {"limit": 0},
        {"limit": 101},
        {"from": "2026-01-01"},
        {"from": "2026-01-01T00:00:00"},
        {"to": "9999-12-31T23:59:59-23:59"},
        {"generation_id": "1; DROP TABLE credit_entries"},
        {"surprise": "1"},
    ],
    ids=str,
)
async def test_nonsense_is_refused(world: World, wanted: dict[str, Any]) -> None:
    person = await world.person()
    reply = await person("GET", "/v1/credits/entries", params=wanted)
    assert (reply.status_code, reply.json()["code"]) == (422, "validation-failed")
    assert reply.json()["errors"][0]["parameter"].startswith(next(iter(wanted)))


async def test_all_time_is_a_range_too(world: World) -> None:
    person = await world.person(granted=5)
    ends = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}
    assert len(await every(person, **ends)) == 1
    assert await every(person, **{"from": ends["to"], "to": ends["from"]}) == []
    assert await every(await world.person()) == []


async def test_a_page_that_looked_long_enough_ends_and_the_next_goes_on(world: World) -> None:
    async with world.pool.acquire() as connection:
        teller = await Teller(connection).open()
        for _ in range(3):
            await teller.grant(5)
        for _ in range(8):
            await teller.hold(1)
        grants, wanted = [], Wanted(kinds=("grant",))
        before: int | None = None
        looks = 0
        while looks == 0 or before is not None:
            found, before = await lines.newest(
                connection, user_id=teller.user_id, wanted=wanted, before=before, limit=10, scan=4
            )
            grants += [line["seq"] for line in found]
            looks += 1
    assert (grants, looks) == ([3, 2, 1], 3)


async def test_the_balance_before_and_now(world: World) -> None:
    person = await world.person(granted=7)
    before = datetime.now(UTC) - timedelta(days=1)
    books = (await person("GET", "/v1/credits/balance", params={"at": before.isoformat()})).json()
    assert (books["seq"], books["balance"], books["posted"], books["held"]) == (0, 0, 0, 0)
    await person.submit(type="image")
    now = (await person("GET", "/v1/credits/balance")).json()
    assert (now["balance"], now["held"], now["overdraft_used"]) == (7, 5, 0)


async def test_the_books_know_no_future(world: World) -> None:
    person = await world.person(granted=7)
    ahead = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    reply = await person("GET", "/v1/credits/balance", params={"at": ahead})
    assert (reply.status_code, reply.json()["errors"][0]["parameter"]) == (422, "at")
    for nonsense in ("yesterday", "1764000000", "2026-01-01"):
        assert (await person("GET", "/v1/credits/balance", params={"at": nonsense})).status_code == 422


async def test_one_is_asked_who_one_is(world: World) -> None:
    for path in ("/v1/credits/entries", "/v1/credits/balance", "/v1/credits/statement", "/v1/settings", "/v1/events"):
        assert (await world.client.get(path)).status_code == 401, path


async def test_late_and_lapsed_have_words_of_their_own(world: World) -> None:
    async with world.pool.acquire() as connection:
        teller = await Teller(connection).open()
        await teller.grant(5, ref=fresh("late"))
        hold_id = await teller.hold(4)
        await teller.after(2).expire()
        await teller.capture(hold_id, 6 - 2)
        found, _ = await lines.newest(connection, user_id=teller.user_id, wanted=Wanted(), before=None, limit=9)
    assert [line["description"] for line in found] == [
        "Charged late for a generation",
        "Returned from a generation that took too long",
        "Held for a generation",
        "Received: credits you bought",
    ]
