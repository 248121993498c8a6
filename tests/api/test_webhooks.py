"""RunPod's door: kept once, heard at once, and opened by nothing but the capability."""

import asyncio
from uuid import UUID

import httpx
import orjson

from shared.generations import State
from shared.webhooks import webhook_token
from tests.api.conftest import Caller, World
from tests.api.ladder import climb


async def sent(world: World, person: Caller, to: State = State.SUBMITTING) -> UUID:
    generation_id = UUID((await person.submit()).json()["id"])
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, to)
    return generation_id


async def call(world: World, generation_id: UUID, body: object, *, attempt: int = 1) -> httpx.Response:
    token = webhook_token(world.state.webhooks, generation_id, attempt=attempt)
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return await world.client.post(f"/webhooks/runpod/{token}", content=content)


async def row(world: World, statement: str, generation_id: UUID) -> dict[str, object]:
    async with world.pool.acquire() as connection:
        return dict(await connection.fetchrow(statement, generation_id) or {})


async def attempt_of(world: World, generation_id: UUID) -> dict[str, object]:
    return await row(
        world, "SELECT remote_id, remote_status FROM generation_attempts WHERE generation_id = $1", generation_id
    )


async def test_a_webhook_before_our_record_names_the_job(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    reply = await call(world, generation_id, {"id": "job-1", "status": "COMPLETED", "output": ["x"]})
    assert (reply.status_code, reply.json()) == (200, {"received": True})
    assert await attempt_of(world, generation_id) == {"remote_id": "job-1", "remote_status": "COMPLETED"}
    heard = await row(
        world, "SELECT heard_attempt, due_at <= now() AS due FROM generations WHERE id = $1", generation_id
    )
    assert heard == {"heard_attempt": 1, "due": True}
    rung: list[bytes] = []
    for _ in range(20):  # a busy machine may miss a ring of 50 ms; RunPod calls again, and so do we
        rung = await world.state.queue.zrange(world.state.queue.default_queue_name, 0, -1)
        if rung:
            break
        await call(world, generation_id, {"id": "job-1", "status": "COMPLETED", "output": ["x"]})
    assert f"{generation_id}:2".encode() in rung


async def test_the_same_body_again_is_one_receipt(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person, State.SUBMITTED)
    body = {"id": f"job-{generation_id}", "status": "COMPLETED"}
    replies = await asyncio.gather(*(call(world, generation_id, body) for _ in range(5)))
    assert {reply.status_code for reply in replies} == {200}
    kept = await row(
        world, "SELECT count(*), sum(deliveries) FROM webhook_receipts WHERE generation_id = $1", generation_id
    )
    assert kept == {"count": 1, "sum": 5}


async def test_only_an_end_is_kept_as_the_last_word(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    await call(world, generation_id, {"id": "job-1", "status": "IN_PROGRESS"})
    assert await attempt_of(world, generation_id) == {"remote_id": "job-1", "remote_status": None}
    await call(world, generation_id, {"id": "job-1", "status": "FAILED"})
    await call(world, generation_id, {"id": "job-1", "status": "COMPLETED"})
    assert (await attempt_of(world, generation_id))["remote_status"] == "FAILED"


async def test_a_contradiction_changes_nothing(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person, State.SUBMITTED)
    before = await row(world, "SELECT * FROM generations WHERE id = $1", generation_id)
    reply = await call(world, generation_id, {"id": "job-of-somebody-else", "status": "COMPLETED"})
    assert reply.status_code == 409
    assert await row(world, "SELECT * FROM generations WHERE id = $1", generation_id) == before
    assert await row(world, "SELECT * FROM webhook_receipts WHERE generation_id = $1", generation_id) == {}


async def test_garbage_is_refused(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    for body in (b"", b"{", b"\xff", b"[]", b"null", {}, {"id": 5}, {"id": "../x"}, {"id": "x" * 201}, {"id": "a b"}):
        reply = await call(world, generation_id, body)
        assert (reply.status_code, reply.json()["code"]) == (400, "garbled-webhook")
    deep = await call(world, generation_id, b"[" * 100_000)
    assert (deep.status_code, deep.json()["code"]) == (400, "garbled-webhook")
    assert (await attempt_of(world, generation_id))["remote_id"] is None


async def test_half_an_emoji_does_not_refuse_a_result(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    body = b'{"id": "job-1", "status": "COMPLETED", "output": ["\\ud83d"]}'
    assert (await call(world, generation_id, body)).status_code == 200
    assert await attempt_of(world, generation_id) == {"remote_id": "job-1", "remote_status": "COMPLETED"}


async def test_strange_statuses_are_hints_at_most(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    for status in (None, 7, ["COMPLETED"], "x" * 10_000, "nul\0", "\u2603"):
        assert (await call(world, generation_id, {"id": "job-1", "status": status})).status_code == 200
    assert (await attempt_of(world, generation_id))["remote_status"] is None


async def test_an_address_that_leaked_does_not_fill_the_table(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    for n in range(25):
        assert (await call(world, generation_id, {"id": "job-1", "n": n})).status_code == 200
    kept = await row(world, "SELECT count(*) FROM webhook_receipts WHERE generation_id = $1", generation_id)
    assert kept == {"count": 20}


async def test_forged_addresses_never_reach_postgres(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    good = webhook_token(world.state.webhooks, generation_id, attempt=1)
    other_purpose = webhook_token(world.state.cursors, generation_id, attempt=1)
    await world.pool.close()
    for token in ("x", good[:-1], good[:-2] + "AA", other_purpose, good.replace("test.", "live."), "%00", "é"):
        reply = await world.client.post(f"/webhooks/runpod/{token}", content=b'{"id":"job-1"}')
        assert (reply.status_code, reply.json()["code"]) == (404, "not-found")
        assert token not in reply.text or token == "x"


async def test_attempts_that_never_were_and_ends_long_past(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person, State.COMPLETED)
    assert (await call(world, generation_id, {"id": "job-1"}, attempt=2)).status_code == 404
    before = await row(world, "SELECT * FROM generations WHERE id = $1", generation_id)
    late = await call(world, generation_id, {"id": f"job-{generation_id}", "status": "COMPLETED"})
    assert late.status_code == 200
    assert await row(world, "SELECT * FROM generations WHERE id = $1", generation_id) == before


async def test_large_results_are_welcome_and_larger_ones_are_not(world: World) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    assert (await call(world, generation_id, {"id": "job-1", "output": "x" * 20_000_000})).status_code == 200
    assert (await call(world, generation_id, {"id": "job-1", "output": "x" * 27_000_000})).status_code == 413


async def test_the_token_is_not_logged(world: World, capsys: object) -> None:
    person = await world.person(granted=10)
    generation_id = await sent(world, person)
    await call(world, generation_id, {"id": "job-1"})
    out = capsys.readouterr().out  # type: ignore[attr-defined]
    assert "/webhooks/runpod/{token}" in out
    assert webhook_token(world.state.webhooks, generation_id, attempt=1) not in out
