"""The audit log in pages, and who hears of an act at once."""

from typing import Any
from uuid import uuid4

import pytest

from api.admin import operations
from tests.api.admin.conftest import adjust, charged, log_of, reverse
from tests.api.conftest import Caller, World


async def test_the_log_in_pages(world: World, admin: Caller) -> None:
    person = await world.person()
    for amount in range(1, 8):
        await adjust(admin, person, amount=amount)
    filters: dict[str, Any] = {"scope": person.user_id, "actor": admin.user_id, "kind": "adjust", "limit": 3}
    seen: list[int] = []
    reply = await admin("GET", "/v1/admin/operations", params=filters)
    while True:
        seen += [act["outcome"]["amount"] for act in reply.json()["data"]]
        if not reply.json()["has_more"]:
            break
        reply = await admin("GET", reply.headers["Link"].partition(">")[0].removeprefix("<"))
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    cursor = (await admin("GET", "/v1/admin/operations", params=filters)).json()["next_cursor"]
    for other in ({"actor": "somebody"}, {"kind": "grant"}, {"scope": "plans"}):
        strange = await admin("GET", "/v1/admin/operations", params={**filters, **other, "cursor": cursor})
        assert (strange.status_code, strange.json()["code"]) == (400, "invalid-cursor")


async def test_acts_of_one_moment_are_neither_lost_nor_doubled(world: World, admin: Caller) -> None:
    actor = f"script_{uuid4().hex}"
    async with world.pool.acquire() as connection:
        await connection.execute(
            """SELECT ledger_remember('scope-' || n, 'key', 'grant', sha256(''), '{}', '2026-01-01T00:00:00Z', $1)
               FROM generate_series(1, 20) n""",
            actor,
        )
    seen, cursor = [], None
    while True:
        page = (
            await admin(
                "GET",
                "/v1/admin/operations",
                params={"actor": actor, "limit": 3, **({"cursor": cursor} if cursor else {})},
            )
        ).json()
        seen += [act["scope"] for act in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert sorted(seen) == sorted(f"scope-{n}" for n in range(1, 21))


async def test_what_work_does_is_not_in_the_log(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    await charged(world, person)
    assert [act["kind"] for act in await log_of(admin, scope=person.user_id)] == ["grant"]


@pytest.mark.parametrize(
    "query", [{"kind": "reserve"}, {"limit": 0}, {"scope": "a\0"}, {"x": "1"}, {"cursor": "made-up"}]
)
async def test_bad_looks_at_the_log(admin: Caller, query: dict[str, str]) -> None:
    assert (await admin("GET", "/v1/admin/operations", params=query)).status_code in (400, 422)


@pytest.mark.parametrize(("statement", "scope"), [("acts", []), ("acts_of_scope", ["user_busy"])])
async def test_the_log_is_read_by_an_index_that_work_does_not_pay_for(
    world: World, statement: str, scope: list[str]
) -> None:
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            """SELECT ledger_remember(who, kind || n, kind, sha256(''), '{}', now() - make_interval(secs => n))
               FROM generate_series(1, 4000) n, unnest(ARRAY['reserve', 'capture', 'grant']) kind,
                   unnest(ARRAY['somebody' || n % 100, 'user_busy']) who
               WHERE who <> 'user_busy' OR kind <> 'grant' OR n <= 3"""
        )
        await connection.execute("ANALYZE credit_operations")
        arguments = [None, None, None, None, 20, *scope]
        plan = await connection.fetch(f"EXPLAIN {operations._SQL[statement]}", *arguments)
        await transaction.rollback()
    index = "credit_operations_chain" if scope else "credit_operations_acts"
    assert f" {index} " in "\n".join(row[0] for row in plan)


async def test_the_persons_open_pages_are_told(world: World, admin: Caller) -> None:
    person = await world.person(granted=20)
    generation_id = await charged(world, person)
    grant = {"user_id": person.user_id, "amount": 1, "kind": "promo", "source_ref": "more"}
    for act in (
        admin("POST", "/v1/admin/grants", json=grant),
        adjust(admin, person),
        reverse(admin, generation_id=generation_id),
        reverse(admin, user_id=person.user_id, kind="promo", source_ref="more"),
        admin("PATCH", f"/v1/admin/people/{person.user_id}", json={"overdraft_limit": 1}),
    ):
        with world.state.hub.listen(person.user_id) as told:
            assert (await act).is_success
            assert told.heard
    with world.state.hub.listen(f"somebody-{person.user_id}") as told:
        await admin("PUT", f"/v1/admin/plans/news-{uuid4().hex[:8]}", json={})
        assert told.heard, "everybody's plan may be the one"
