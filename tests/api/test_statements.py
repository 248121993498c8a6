"""Statements: opening balance, lines, closing balance. They add up to the credit, whatever happens meanwhile."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest

from api import statements
from shared import corrections
from tests.api.conftest import Caller, World
from tests.api.histories import month_ago, random_history
from tests.ledger.teller import Teller


async def exported(person: Caller, **query: Any) -> list[dict[str, Any]]:
    """The lines of a statement as a program reads them."""
    reply = await person("GET", "/v1/credits/statement", params={"format": "ndjson", **query})
    assert reply.status_code == 200, reply.text
    return [orjson.loads(line) for line in reply.content.splitlines()]


def assert_adds_up(rows: Sequence[dict[str, Any]]) -> None:
    opening, *between, closing = rows
    assert (opening["kind"], closing["kind"]) == ("opening", "closing")
    assert opening["balance"] + sum(row["amount"] for row in between) == closing["balance"]
    assert opening["held"] + sum(row["held_change"] for row in between) == closing["held"]
    seqs = [row["seq"] for row in between]
    assert seqs == list(range(min(seqs, default=0), min(seqs, default=0) + len(seqs)))


@pytest.mark.parametrize("seed", range(8))
async def test_any_range_of_any_history_adds_up(world: World, seed: int) -> None:
    random = Random(seed)
    async with world.pool.acquire() as connection:
        teller = await random_history(connection, random)
    person = Caller(world, teller.user_id)
    whole = await exported(person)  # the look writes down what the clock did since
    async with world.pool.acquire() as connection:
        known = await connection.fetch(
            "SELECT at, posted_after - overdraft_used_after AS balance FROM credit_entries "
            "WHERE user_id = $1 ORDER BY seq",
            teller.user_id,
        )
    assert_adds_up(whole)
    assert whole[0]["balance"] == 0
    assert len(whole) == len(known) + 2
    moments = [row["at"] for row in known] + [month_ago() + timedelta(days=40 * random.random()) for _ in range(6)]
    for since, until in (sorted(random.sample(moments, 2)) for _ in range(12)):
        if since == until:
            continue
        rows = await exported(person, **{"from": since.isoformat(), "to": until.isoformat()})
        assert_adds_up(rows)
        before = [row["balance"] for row in known if row["at"] < since]
        within = [row["balance"] for row in known if row["at"] < until]
        assert (rows[0]["balance"], rows[-1]["balance"]) == (before[-1] if before else 0, within[-1] if within else 0)
        assert len(rows) == len(within) - len(before) + 2


async def test_what_happens_meanwhile_is_in_the_next_one(world: World) -> None:
    async with world.pool.acquire() as connection:
        teller = await random_history(connection, Random(99))
    statement = await statements.begin(world.state, user_id=teller.user_id, since=None, until=None)
    chunks = []
    async for chunk in statements.written(world.state, statement, statements.as_ndjson, page_entries=7):
        chunks.append(chunk)
        assert world.pool.get_idle_size() == world.pool.get_size(), "nothing is held while the client is slow"
        async with world.pool.acquire() as connection:
            await Teller(connection, teller.user_id, now=datetime.now(UTC)).grant(1)
    assert max(chunk.count(b"\n") for chunk in chunks) == 7
    rows = [orjson.loads(line) for line in b"".join(chunks).splitlines()]
    assert_adds_up(rows)
    assert len(rows) == len(statement.entries) + 2


async def test_what_was_on_its_way_is_in_the_next_one(world: World) -> None:
    person = await world.person()
    async with world.pool.acquire() as connection:
        teller = Teller(connection, person.user_id, now=datetime.now(UTC))
        await teller.grant(7)
        transaction = connection.transaction()
        await transaction.start()
        await teller.after(1e-9).grant(5)
        first = await exported(person)
        await transaction.commit()
    following = await exported(person, **{"from": first[-1]["at"]})
    assert_adds_up(first)
    assert_adds_up(following)
    assert following[0]["balance"] == first[-1]["balance"]
    assert [row["amount"] for row in [*first[1:-1], *following[1:-1]]][-2:] == [7, 5]


async def test_a_spreadsheet_reads_the_same_and_runs_nothing(world: World) -> None:
    person = await world.person(granted=10)
    nasty = ['=HYPERLINK("http://evil.example")', '+1,"2"\r\n=3', "@SUM(A1)", "-1+1", "\uff1d1", 'fair, "and" square']
    async with world.pool.acquire() as connection:
        for index, reason in enumerate(nasty):
            amount = (-1) ** index
            await corrections.adjust(
                connection, user_id=person.user_id, key=f"k{index}", amount=amount, reason=reason, actor="t"
            )
        teller = Teller(connection, person.user_id, now=datetime.now(UTC))
        await teller.grant(1, ref="=cmd|' /C calc'!A0")
    reply = await person("GET", "/v1/credits/statement")
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
    told = await exported(person)
    assert [row["balance"] for row in rows] == [str(row["balance"]) for row in told]
    assert [row["at"] for row in rows[1:-1]] == [row["at"] for row in told[1:-1]]
    assert [row["amount"] for row in rows[1:-1]] == [str(row["amount"]) for row in told[1:-1]]
    assert [row["reason"] for row in rows if row["reason"]] == [
        *(f"'{reason}" for reason in nasty[:-1]),
        'fair, "and" square',
    ]
    assert rows[-2]["source_ref"] == "'=cmd|' /C calc'!A0"
    assert list(rows[0]) == list(statements.COLUMNS)


async def test_it_is_a_file_with_a_name(world: World) -> None:
    person = await world.person(granted=10)
    today = datetime.now(UTC).date()
    for wanted, name in (
        ({}, f"social-twin-credits-start-to-{today}.csv"),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "format": "ndjson"},
         "social-twin-credits-2026-01-01-to-2026-02-01.ndjson"),
        ({"to": "9999-01-01T00:00:00Z"}, f"social-twin-credits-start-to-{today}.csv"),
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            reply = await person(method, "/v1/credits/statement", params=wanted)
            assert reply.status_code == 200
            assert reply.headers["content-disposition"] == f'attachment; filename="{name}"'
            assert (reply.content == b"") == (method == "HEAD")


async def test_somebody_new_has_an_empty_one(world: World) -> None:
    opening, closing = await exported(await world.person())
    assert (opening["balance"], opening["at"], closing["balance"], closing["held"]) == (0, None, 0, 0)


async def test_it_is_about_oneself(world: World) -> None:
    person, stranger = await world.person(granted=10), await world.person(granted=99)
    assert await exported(person) != await exported(stranger)
    assert len(await exported(person)) == 3


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        ({"from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
        ({"from": "2026-02-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}, "from"),
        ({"from": "9999-01-01T00:00:00Z"}, "from"),
        ({"from": "9998-01-01T00:00:00Z", "to": "9999-01-01T00:00:00Z"}, "from"),
        ({"from": "January"}, "from"),
        ({"to": "2026-01-01"}, "to"),
        ({"format": "xlsx"}, "format"),
        ({"kind": "grant"}, "kind"),
    ],
    ids=str,
)
async def test_bad_ranges_are_refused(world: World, wanted: dict[str, str], parameter: str) -> None:
    person = await world.person()
    for method in ("GET", "HEAD"):
        reply = await person(method, "/v1/credits/statement", params=wanted)
        assert reply.status_code == 422
    reply = await person("GET", "/v1/credits/statement", params=wanted)
    assert reply.json()["errors"][0]["parameter"] == parameter
