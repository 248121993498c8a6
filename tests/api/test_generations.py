"""Looking back: lists, one generation, cancelling, waiting; and never somebody else's."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.generations import wait_seconds
from shared.generations import State
from tests.api.conftest import Caller, World
from tests.api.ladder import climb


async def submitted(person: Caller, **order: Any) -> UUID:
    reply = await person.submit(**order)
    assert reply.status_code == 202, reply.text
    return UUID(reply.json()["id"])


async def climbed(world: World, generation_id: UUID, to: State, **how: Any) -> None:
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, to, **how)


async def test_pages_meet_without_gap_or_overlap(world: World) -> None:
    person = await world.person(granted=100)
    ids = [str(await submitted(person)) for _ in range(7)]
    seen: list[str] = []
    path = "/v1/generations?limit=3"
    for expected in (3, 3, 1):
        reply = await person("GET", path)
        page = reply.json()
        seen += [item["id"] for item in page["data"]]
        assert len(page["data"]) == expected
        assert page["has_more"] is (page["next_cursor"] is not None)
        if page["has_more"]:
            path = reply.headers["link"].split(">")[0].removeprefix("<")
            assert page["next_cursor"] in path
        else:
            assert "link" not in reply.headers
        await submitted(person)  # newer ones do not shift the pages
    assert seen == ids[::-1]


async def test_lists_filter_by_type_and_status(world: World) -> None:
    person = await world.person(granted=100)
    text, image = await submitted(person), await submitted(person, type="image")
    await climbed(world, text, State.COMPLETED)

    async def found(query: str) -> list[str]:
        return [item["id"] for item in (await person("GET", f"/v1/generations?{query}")).json()["data"]]

    assert await found("type=image") == [str(image)]
    assert await found("type=image&type=text") == [str(image), str(text)]
    assert await found("status=completed") == [str(text)]
    assert await found("status=completed&type=video") == []


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "type=music", "status=queued", "page=2"])
async def test_bad_queries_name_the_parameter(world: World, query: str) -> None:
    person = await world.person()
    reply = await person("GET", f"/v1/generations?{query}")
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["parameter"].startswith(query.split("=", maxsplit=1)[0])


async def test_cursors_are_bound_to_person_and_filters(world: World) -> None:
    person, stranger = await world.person(granted=100), await world.person(granted=100)
    for _ in range(3):
        await submitted(person)
    cursor = (await person("GET", "/v1/generations?limit=1")).json()["next_cursor"]
    assert (await person("GET", f"/v1/generations?limit=2&cursor={cursor}")).status_code == 200
    for caller, query in (
        (stranger, f"cursor={cursor}"),
        (person, f"type=text&cursor={cursor}"),
        (person, "cursor=made-up"),
        (person, f"cursor={cursor[:-2]}AA"),
        (person, "cursor=test.%E2%98%83.x"),
        (person, "cursor="),
    ):
        reply = await caller("GET", f"/v1/generations?{query}")
        assert (reply.status_code, reply.json()["code"]) == (400, "invalid-cursor")


async def test_what_came_of_it(world: World) -> None:
    person = await world.person(granted=100)
    generation_id = await submitted(person)
    await climbed(world, generation_id, State.COMPLETED)
    seen = (await person("GET", f"/v1/generations/{generation_id}")).json()
    assert seen["status"] == "completed"
    assert seen["cost"]["charged"] == 1
    assert (seen["cost"]["held"], seen["cost"]["refunded"]) == (0, 0)
    assert seen["balance"] == {"available": 99, "held": 0, "overdraft_used": 0}
    assert seen["outputs"] == [{"index": 0, "kind": "text", "media_type": "text/plain", "text": "It blinks."}]
    assert seen["queue"] is None
    assert [(change["from"], change["to"]) for change in seen["transitions"]] == [
        (None, "reserved"),
        ("reserved", "submitting"),
        ("submitting", "submitted"),
        ("submitted", "running"),
        ("running", "finishing"),
        ("finishing", "completed"),
    ]


async def test_a_failure_says_why_and_costs_nothing(world: World) -> None:
    person = await world.person(granted=100)
    generation_id = await submitted(person, type="image")
    await climbed(world, generation_id, State.FAILED)
    seen = (await person("GET", f"/v1/generations/{generation_id}")).json()
    assert seen["error"] == {"code": "model-error", "detail": "It broke."}
    assert (seen["cost"]["charged"], seen["cost"]["refunded"]) == (0, 5)


async def test_other_peoples_generations_do_not_exist(world: World) -> None:
    owner, stranger = await world.person(granted=100), await world.person(granted=100)
    generation_id = await submitted(owner)
    before = await owner.traces()
    for path in (f"/v1/generations/{generation_id}", f"/v1/generations/{uuid4()}", "/v1/generations/no-uuid"):
        for method, suffix in (("GET", ""), ("POST", "/cancel"), ("GET", "/events")):
            reply = await stranger(method, path + suffix)
            assert (reply.status_code, reply.json()["code"]) == (404, "not-found")
    assert (await stranger("GET", "/v1/generations")).json()["data"] == []
    assert (await owner("GET", f"/v1/generations/{generation_id}")).json()["cancel_requested_at"] is None
    assert await owner.traces() == before


async def test_cancelling_is_asked_once_and_again(world: World) -> None:
    person = await world.person(granted=100)
    generation_id = await submitted(person)
    first = await person("POST", f"/v1/generations/{generation_id}/cancel")
    assert first.status_code == 202
    assert first.json()["cancel_requested_at"] is not None
    again = await person("POST", f"/v1/generations/{generation_id}/cancel")
    assert again.status_code == 202
    assert again.json()["cancel_requested_at"] == first.json()["cancel_requested_at"]


async def test_too_late_to_cancel_names_the_state(world: World) -> None:
    person = await world.person(granted=100)
    for state in (State.FINISHING, State.COMPLETED):
        generation_id = await submitted(person)
        await climbed(world, generation_id, state)
        reply = await person("POST", f"/v1/generations/{generation_id}/cancel")
        assert reply.status_code == 409
        assert reply.json()["generation_status"] == state
    cancelled = await submitted(person)
    await climbed(world, cancelled, State.CANCELLED)
    assert (await person("POST", f"/v1/generations/{cancelled}/cancel")).status_code == 200


async def test_prefer_wait_sees_the_end(world: World) -> None:
    person = await world.person(granted=100)
    waiting = asyncio.create_task(person.submit(headers={"Prefer": "respond-async, wait=20", "Idempotency-Key": "w"}))
    while (await person.traces())["generations"] == 0:
        await asyncio.sleep(0)
    async with world.pool.acquire() as connection:
        generation_id = await connection.fetchval("SELECT id FROM generations WHERE user_id = $1", person.user_id)
    await climbed(world, generation_id, State.COMPLETED)
    world.state.hub.tell(person.user_id)
    reply = await waiting
    assert reply.status_code == 201
    assert reply.headers["preference-applied"] == "wait=20"
    assert reply.json()["outputs"][0]["text"] == "It blinks."
    again = await person.submit(headers={"Prefer": "wait=20", "Idempotency-Key": "w"})
    assert (again.status_code, again.content) == (201, reply.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_prefer_wait_gives_up_politely(world: World) -> None:
    person = await world.person(granted=100)
    reply = await person.submit(headers={"Prefer": "wait=1"})
    assert reply.status_code == 202
    assert reply.json()["status"] == "reserved"


async def test_a_repeat_of_an_accepted_one_does_not_wait(world: World) -> None:
    person = await world.person(granted=100)
    first = await person.submit(headers={"Idempotency-Key": "a"})
    await climbed(world, UUID(first.json()["id"]), State.COMPLETED)
    again = await person.submit(headers={"Idempotency-Key": "a", "Prefer": "wait=20"})
    assert (again.status_code, again.content) == (202, first.content)
    assert "preference-applied" not in again.headers


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("", 0), ("wait=5", 5), ("wait=500", 30), ("respond-async; wait=7", 7), ("await=5", 0), ("wait=x", 0)],
)
def test_what_a_prefer_header_asks(header: str | None, seconds: int) -> None:
    assert wait_seconds(header) == seconds


async def test_pictures_can_be_modified_by_their_owner(world: World) -> None:
    person, stranger = await world.person(granted=100), await world.person(granted=100)
    picture = await submitted(person, type="image")
    source = {"generation_id": str(picture), "index": 0}
    assert (await person.submit(type="modify", source=source)).status_code == 422
    output = {"index": 0, "kind": "image", "media_type": "image/png", "key": "k", "width": 8, "height": 8}
    await climbed(world, picture, State.COMPLETED, outputs=[output])
    text = await submitted(person)
    await climbed(world, text, State.COMPLETED)
    refused = (
        (stranger, source),
        (person, {**source, "index": 1}),
        (person, {"generation_id": str(text)}),
        (person, {"generation_id": str(uuid4())}),
    )
    for caller, wrong in refused:
        before = await caller.traces()
        reply = await caller.submit(type="modify", source=wrong)
        assert (reply.status_code, reply.json()["errors"][0]["pointer"]) == (422, "/source")
        assert await caller.traces() == before
    modified = await person.submit(type="modify", source=source)
    assert modified.status_code == 202
    assert modified.json()["source"] == source


async def test_the_queue_is_counted_and_the_estimate_earned(world: World) -> None:
    person = await world.person(granted=100)
    first = await submitted(person, type="video")
    world.state.estimates.forget()
    body = (await person.submit(type="video")).json()
    assert body["queue"] == {"position": 1, "held_back": False, "eta_seconds": None}
    await climbed(world, first, State.COMPLETED)
    async with world.pool.acquire() as connection:
        for seconds in (0, 10, 20, 30, 40):
            generation_id = first if seconds == 0 else await submitted(person, type="video")
            await climb(connection, generation_id, State.COMPLETED) if seconds else None
            await connection.execute(
                "UPDATE generations SET submitted_at = finished_at - make_interval(secs => $2) WHERE id = $1",
                generation_id,
                float(seconds),
            )
        world.state.estimates.forget()
        later = (await person.submit(type="video")).json()
        # 20 and 36 to run, behind one in a line of which five were sent in the last minute
        assert later["queue"] == {"position": 1, "held_back": False, "eta_seconds": {"p50": 32, "p90": 48}}
        await climb(connection, UUID(body["id"]), State.SUBMITTED)
        world.state.estimates.forget()
        sent = (await person("GET", f"/v1/generations/{body['id']}")).json()
        assert sent["queue"] == {"position": None, "held_back": False, "eta_seconds": {"p50": 20, "p90": 36}}
        listed = {one["id"]: one["queue"] for one in (await person("GET", "/v1/generations")).json()["data"]}
        assert listed[later["id"]]["position"] == 0
        assert listed[body["id"]] == sent["queue"]
        assert listed[str(first)] is None


async def test_what_is_held_back_says_so(world: World) -> None:
    person = await world.person(granted=100)
    await person.submit(type="text")
    async with world.pool.acquire() as connection:
        await connection.execute("INSERT INTO credit_plans (plan, max_in_flight) VALUES ($1, 1)", person.user_id)
        await connection.execute("UPDATE user_billing SET plan = $1 WHERE user_id = $1", person.user_id)
    held = (await person.submit(type="text")).json()
    assert held["status"] == "reserved"
    assert (held["queue"]["position"], held["queue"]["held_back"]) == (None, True)


async def test_the_time_that_was_told_first_is_kept_to_be_judged(world: World) -> None:
    """What a later look tells changes nothing of it; who tries again is told anew."""
    person = await world.person(granted=100)
    kept = "SELECT estimated_seconds FROM generations WHERE id = $1"
    generation_id = await submitted(person, type="image")
    async with world.pool.acquire() as connection:
        assert await connection.fetchval(kept, generation_id) is None, "nothing was told"
        for _ in range(5):
            await climb(connection, await submitted(person, type="image"), State.COMPLETED)
        await connection.execute(
            "UPDATE generations SET submitted_at = finished_at - interval '9 s' WHERE type = 'image'"
        )
        world.state.estimates.forget()
        told = (await person.submit(type="image")).json()
        assert await connection.fetchval(kept, UUID(told["id"])) == told["queue"]["eta_seconds"]["p50"] >= 9
        world.state.estimates.forget()
        await climb(connection, generation_id, State.FAILED)
        again = (await person("POST", f"/v1/generations/{generation_id}/retry")).json()
        assert await connection.fetchval(kept, generation_id) == again["queue"]["eta_seconds"]["p50"] >= 9
