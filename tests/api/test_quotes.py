"""Prices as people meet them: the arithmetic of a quote, what it locks, endpoints with a price of their own."""

from typing import Any

import asyncpg
import pytest

from shared import pricing
from tests.api.conftest import Caller, World
from tests.api.price_list import PIXELS, SECONDS, STEPS, VIDEO, menu, priced, quoted


async def test_a_person_can_follow_the_arithmetic(world: World, owner: Caller) -> None:
    await priced(owner, type="image", unit_credits=5, surcharges=[STEPS, PIXELS])
    person = await world.person(granted=100)
    parameters = {"steps": 50, "width": 1024, "height": 512}
    quote = await quoted(person, type="image", batch_size=2, parameters=parameters)
    assert quote["lines"] == [
        {"label": "2 x image at 5", "amount": 10},
        {"label": "2 x steps 50 (30 above 20) at 3", "amount": 6},
        {"label": "2 x pixels 524288 (262144 above 262144) at 2", "amount": 4},
    ]
    assert quote["cost"] == 20
    sent = (await person.submit(type="image", batch_size=2, parameters=parameters)).json()
    assert (sent["cost"]["quoted"], sent["cost"]["lines"]) == (20, quote["lines"])
    assert sent["parameters"].items() >= parameters.items()


async def test_what_is_not_asked_for_costs_nothing_more(world: World, owner: Caller) -> None:
    await priced(owner, **VIDEO)
    person = await world.person(granted=100)
    for parameters, cost in (
        ({}, 10),
        ({"seed": 7}, 10),
        ({"seconds": 2}, 10),
        ({"seconds": 3}, 13),
        ({"steps": 21}, 11),
    ):
        assert (await quoted(person, type="video", parameters=parameters))["cost"] == cost


async def test_a_quote_locks_its_price_while_the_owner_makes_it_dearer(world: World, owner: Caller) -> None:
    await priced(owner, **VIDEO)
    person = await world.person(granted=1000)
    parameters = {"seconds": 5, "steps": 40}
    quote = await quoted(person, type="video", batch_size=2, parameters=parameters)
    assert quote["cost"] == 2 * (10 + 9 + 2)
    await priced(owner, **{**VIDEO, "surcharges": [{**SECONDS, "credits": 30}]})
    order: dict[str, Any] = {"type": "video", "batch_size": 2, "parameters": parameters}
    refused = await person.submit(**order, max_cost=quote["cost"])
    assert (refused.status_code, refused.json()["code"], refused.json()["cost"]) == (409, "price-changed", 200)
    locked = await person.submit(
        **{**order, "parameters": {**parameters, "seed": 4}}, max_cost=quote["cost"], quote_id=quote["id"]
    )
    assert (locked.status_code, locked.json()["cost"]["quoted"]) == (202, quote["cost"])
    assert locked.json()["cost"]["lines"] == quote["lines"]
    assert await person.available() == 1000 - quote["cost"]


async def test_a_quote_is_good_for_nothing_dearer_or_cheaper(world: World, owner: Caller) -> None:
    await priced(owner, **VIDEO)
    await priced(owner, **VIDEO, endpoint="fast")
    person = await world.person(granted=1000)
    quote = await quoted(person, type="video", parameters={"seconds": 5})
    at_fast = await quoted(person, type="video", parameters={"seconds": 5}, endpoint="fast")
    before = await person.traces()
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        (quote["id"], {"parameters": {"seconds": 20}}),
        (quote["id"], {"parameters": {"seconds": 5, "steps": 100}}),
        (quote["id"], {"parameters": {}}),
        (quote["id"], {"endpoint": "fast"}),
        (at_fast["id"], {}),
    )
    for quote_id, changed in changes:
        reply = await person.submit(**{"type": "video", "parameters": {"seconds": 5}, **changed}, quote_id=quote_id)
        assert (reply.status_code, reply.json()["code"]) == (409, "price-changed"), changed
    assert await person.traces() == before
    assert (await person.submit(type="video", parameters={"seconds": 5}, quote_id=quote["id"])).status_code == 202


async def test_an_endpoint_with_a_price_of_its_own_can_be_asked_for(world: World, owner: Caller) -> None:
    await priced(owner, type="image", unit_credits=5)
    added = await priced(owner, type="image", unit_credits=8, endpoint="gpu-a100.eu_1")
    assert [price["version"] for price in (await menu(world))["endpoint_prices"] if price["type"] == "image"] == [
        added["version"]
    ]
    person = await world.person(granted=100)
    quote = await quoted(person, type="image", endpoint="gpu-a100.eu_1")
    assert (quote["cost"], quote["endpoint"]) == (8, "gpu-a100.eu_1")
    sent = await person.submit(type="image", endpoint="gpu-a100.eu_1", quote_id=quote["id"])
    assert sent.json()["cost"]["quoted"] == 8
    async with world.pool.acquire() as connection:
        wish = await connection.fetchval("SELECT wanted_endpoint FROM generations WHERE user_id = $1", person.user_id)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE generations SET wanted_endpoint = '../etc'")
    assert wish == "gpu-a100.eu_1"
    assert (await quoted(person, type="image"))["cost"] == 5


@pytest.mark.parametrize("wish", [{"endpoint": "nowhere"}, {"type": "text", "endpoint": "only-images"}])
async def test_an_endpoint_without_a_price_cannot_be_asked_for(
    world: World, owner: Caller, wish: dict[str, Any]
) -> None:
    await priced(owner, type="image", unit_credits=8, endpoint="only-images")
    person = await world.person(granted=100)
    before = await person.traces()
    for reply in (
        await person("POST", "/v1/quotes", json={"type": "image", **wish}),
        await person.submit(**{"type": "image", **wish}),
    ):
        assert (reply.status_code, reply.json()["code"]) == (422, "no-such-endpoint")
        assert reply.json()["errors"][0]["pointer"] == "/endpoint"
    assert await person.traces() == before


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"parameters": {"steps": 0}}, "/parameters/steps"),
        ({"parameters": {"steps": 101}}, "/parameters/steps"),
        ({"parameters": {"steps": 2.5}}, "/parameters/steps"),
        ({"parameters": {"seconds": 3}}, "/parameters/seconds"),
        ({"type": "video", "parameters": {"seconds": 0}}, "/parameters/seconds"),
        ({"type": "video", "parameters": {"seconds": 21}}, "/parameters/seconds"),
        ({"type": "video", "parameters": {"seconds": True}}, "/parameters/seconds"),
        ({"type": "text", "parameters": {"steps": 3}}, "/parameters/steps"),
        ({"parameters": {"pixels": 3}}, "/parameters/pixels"),
        ({"parameters": []}, "/parameters"),
        ({"endpoint": "../etc"}, "/endpoint"),
        ({"endpoint": "a\u0000"}, "/endpoint"),
    ],
    ids=str,
)
async def test_a_quote_refuses_what_a_submit_would(world: World, wish: dict[str, Any], pointer: str) -> None:
    person = await world.person(granted=100)
    for reply in (
        await person("POST", "/v1/quotes", json={"type": "image", **wish}),
        await person.submit(**{"type": "image", **wish}),
    ):
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_hold_keeps_what_the_catalogue_says_at_its_version(world: World, owner: Caller) -> None:
    """From both sides: our arithmetic done again, and the database's own."""
    tiers = [{"min_batch": 3, "multiplier_permille": 855}]
    await priced(owner, type="image", unit_credits=7, surcharges=[STEPS, PIXELS], batch_multipliers=tiers)
    person = await world.person(granted=1000)
    for count in (1, 3, 8):
        for parameters in ({}, {"steps": 33}, {"steps": 99, "width": 1024, "height": 1024}):
            assert (await person.submit(type="image", batch_size=count, parameters=parameters)).status_code == 202
    async with world.pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT h.price, h.quoted, g.batch_size, g.parameters, g.price_version, price_fits(h.price, v) AS fits "
            "FROM credit_holds h JOIN generations g USING (hold_id) "
            "JOIN price_versions v ON v.version = g.price_version WHERE h.user_id = $1",
            person.user_id,
        )
        assert len(rows) == 9
        for row in rows:
            price = await pricing.at_version(connection, row["price_version"])
            again = pricing.cost(price, batch_size=row["batch_size"], parameters=row["parameters"])
            assert row["fits"]
            assert again == pricing.Cost.from_snapshot(row["price"])
            assert again.total == row["quoted"]
