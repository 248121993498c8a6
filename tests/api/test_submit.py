"""Submitting: what commits together, what is refused, and what happens when two come at once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from api.settings import ApiSettings
from tests.api.conftest import PUBLIC_URL, World, open_world
from tests.local.issuer import Issuer
from tests.local.leashed import free_port


async def test_a_submit_holds_credits_and_says_so(world: World) -> None:
    person = await world.person(granted=100)
    reply = await person.submit(type="image", prompt="  a lighthouse  ", batch_size=2, client_reference="mine-1")
    assert reply.status_code == 202, reply.text
    body = reply.json()
    assert reply.headers["location"] == body["urls"]["self"] == f"{PUBLIC_URL}/v1/generations/{body['id']}"
    assert (body["status"], body["prompt"], body["batch_size"]) == ("reserved", "a lighthouse", 2)
    assert body["cost"] == {
        "quoted": 10,
        "held": 10,
        "charged": 0,
        "refunded": 0,
        "currency": "credits",
        "lines": [{"label": "2 x image at 5", "amount": 10}],
    }
    assert body["balance"] == {"available": 90, "held": 10, "overdraft_used": 0}
    assert body["created_at"].endswith("Z")
    assert 0 <= body["parameters"]["seed"] < 2**32
    assert body["queue"] == {"position": 0, "held_back": False, "eta_seconds": None}
    assert body["warnings"] == []
    seen = (await person("GET", f"/v1/generations/{body['id']}")).json()
    assert [change["to"] for change in seen["transitions"]] == ["reserved"]
    assert seen["client_reference"] == "mine-1"


async def test_both_addresses_are_one_operation(world: World) -> None:
    person = await world.person(granted=100)
    order = {"type": "text", "prompt": "once"}
    first = await person("POST", "/v1/generations", json=order, headers={"Idempotency-Key": "k"})
    second = await person("POST", "/api/generate-with-tracking", json=order, headers={"Idempotency-Key": "k"})
    assert second.content == first.content
    assert (await person.traces())["generations"] == 1


async def test_the_bell_names_the_generation(world: World) -> None:
    """A ring has 50 ms; a busy machine may miss one, and nothing is lost by it. One of these is heard."""
    person = await world.person(granted=100)
    asked: set[str] = set()
    waiting: list[bytes] = []
    while not waiting and len(asked) < 20:
        asked.add(f"{(await person.submit()).json()['id']}:1")
        waiting = await world.state.queue.zrange(world.state.queue.default_queue_name, 0, -1)
    assert waiting
    assert {name.decode() for name in waiting} <= asked


async def test_redis_away_loses_and_refuses_nothing(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    async with open_world(make_settings(redis_url=f"redis://127.0.0.1:{free_port()}"), issuer) as world:
        person = await world.person(granted=10)
        reply = await person.submit()
        assert reply.status_code == 202
        assert (await person.traces())["generations"] == 1
        readiness = await world.client.get("/readyz")
        assert readiness.status_code == 503
        assert "Redis" in readiness.json()["detail"]


async def test_beyond_the_balance_is_refused_in_words_and_numbers(world: World) -> None:
    person = await world.person(granted=7)
    reply = await person.submit(type="video")
    assert reply.status_code == 402
    problem = reply.json()
    assert problem["code"] == "insufficient-credits"
    assert (problem["required"], problem["shortfall"], problem["balance"]["available"]) == (10, 3, 7)
    assert problem["upgrade_url"] == "https://example.com/upgrade"
    assert problem["reasons"] == ["insufficient-credits"]
    assert await person.available() == 7
    assert (await person.traces())["generations"] == 0


async def test_low_credits_warn_and_go_through(world: World) -> None:
    person = await world.person(granted=12)
    body = (await person.submit(type="image")).json()
    assert [warning["code"] for warning in body["warnings"]] == ["low-balance"]
    assert "7 credits" in body["warnings"][0]["detail"]


async def test_somebody_new_is_met_and_refused_without_a_trace(world: World) -> None:
    person = await world.person()
    reply = await person.submit(headers={"Idempotency-Key": "first"})
    assert reply.status_code == 402
    assert set((await person.traces()).values()) == {0}


async def test_credit_for_one_lets_exactly_one_of_many_through(world: World) -> None:
    person = await world.person(granted=10)
    replies = await asyncio.gather(*(person.submit(type="video") for _ in range(12)))
    assert sorted(reply.status_code for reply in replies) == [202] + [402] * 11
    assert (await person.traces())["generations"] == 1
    assert await person.available() == 0


async def test_a_key_in_parallel_makes_one_generation(world: World) -> None:
    person = await world.person(granted=100)
    replies = await asyncio.gather(*(person.submit(headers={"Idempotency-Key": "same"}) for _ in range(8)))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.content for reply in replies}) == 1
    assert sum(reply.headers.get("idempotent-replayed") == "true" for reply in replies) == 7
    assert (await person.traces())["generations"] == 1
    assert await person.available() == 99


async def test_a_key_in_parallel_for_somebody_new(world: World) -> None:
    person = await world.person()
    replies = await asyncio.gather(*(person.submit(headers={"Idempotency-Key": "same"}) for _ in range(8)))
    assert {reply.status_code for reply in replies} == {402}


async def test_a_key_that_is_held_elsewhere_is_in_progress(world: World) -> None:
    person = await world.person(granted=100)
    async with world.pool.acquire() as other, other.transaction():
        await other.execute(
            "INSERT INTO idempotency_keys (user_id, operation, key, fingerprint, status, body) "
            "VALUES ($1, 'POST /v1/generations', 'slow', '\\x00', 202, '')",
            person.user_id,
        )
        reply = await person.submit(headers={"Idempotency-Key": "slow"})
    assert reply.status_code == 409
    assert reply.json()["code"] == "in-progress"
    assert reply.json()["retryable"] is True
    assert "retry-after" in reply.headers


async def test_a_key_repeats_its_reply_whatever_the_order_of_fields(world: World) -> None:
    person = await world.person(granted=100)
    headers = {"Idempotency-Key": '"quoted"', "Content-Type": "application/json"}
    one = await person("POST", "/v1/generations", content=b'{"type":"text","prompt":"x"}', headers=headers)
    headers["Idempotency-Key"] = "quoted"
    two = await person("POST", "/v1/generations", content=b'{ "prompt": "x", "type": "text" }', headers=headers)
    assert (two.status_code, two.content) == (one.status_code, one.content)
    assert two.headers["idempotent-replayed"] == "true"
    assert two.headers["location"] == one.headers["location"]


async def test_a_key_with_another_body_is_refused(world: World) -> None:
    person = await world.person(granted=100)
    await person.submit(headers={"Idempotency-Key": "k"})
    before = await person.traces()
    reply = await person.submit(prompt="another", headers={"Idempotency-Key": "k"})
    assert reply.status_code == 422
    assert reply.json()["code"] == "idempotency-key-reused"
    assert await person.traces() == before


async def test_a_refusal_is_not_kept(world: World) -> None:
    person = await world.person(granted=5)
    assert (await person.submit(type="video", headers={"Idempotency-Key": "k"})).status_code == 402
    assert (await person.submit(type="text", headers={"Idempotency-Key": "k"})).status_code == 202


async def test_a_key_older_than_thirty_days_is_free_again(world: World) -> None:
    person = await world.person(granted=100)
    first = (await person.submit(headers={"Idempotency-Key": "k"})).json()
    async with world.pool.acquire() as connection:
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = now() - interval '31 days' WHERE user_id = $1", person.user_id
        )
    second = (await person.submit(prompt="new", headers={"Idempotency-Key": "k"})).json()
    assert second["id"] != first["id"]


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "caf\u00e9"])
async def test_a_bad_key_is_refused(world: World, key: str) -> None:
    person = await world.person(granted=100)
    reply = await person.submit(headers={"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert reply.status_code == 400
    assert reply.json()["code"] == "invalid-idempotency-key"


async def test_a_client_reference_is_used_once(world: World) -> None:
    person = await world.person(granted=100)
    first = (await person.submit(client_reference="order-7")).json()
    reply = await person.submit(client_reference="order-7")
    assert reply.status_code == 409
    assert reply.json()["generation_id"] == first["id"]
    assert await person.available() == 99
    stranger = await world.person(granted=100)
    assert (await stranger.submit(client_reference="order-7")).status_code == 202


BAD_ORDERS: list[tuple[dict[str, Any], str]] = [
    ({"type": "music"}, "/type"),
    ({"type": None}, "/type"),
    ({"prompt": ""}, "/prompt"),
    ({"prompt": "   "}, "/prompt"),
    ({"prompt": "x" * 8001}, "/prompt"),
    ({"prompt": "nul\0"}, "/prompt"),
    ({"prompt": 5}, "/prompt"),
    ({"batch_size": 0}, "/batch_size"),
    ({"batch_size": 99}, "/batch_size"),
    ({"batch_size": "2"}, "/batch_size"),
    ({"batch_size": True}, "/batch_size"),
    ({"batch_size": 1.0}, "/batch_size"),
    ({"parameters": []}, "/parameters"),
    ({"parameters": {"seed": -1}}, "/parameters/seed"),
    ({"parameters": {"seed": 2**32}}, "/parameters/seed"),
    ({"parameters": {"width": 512}}, "/parameters/width"),
    ({"type": "image", "parameters": {"width": 511}}, "/parameters/width"),
    ({"type": "image", "parameters": {"height": 2048}}, "/parameters/height"),
    ({"type": "modify"}, "/source"),
    ({"type": "modify", "source": {"generation_id": "x"}}, "/source/generation_id"),
    ({"source": {"generation_id": "018f0000-0000-7000-8000-000000000000"}}, "/source"),
    ({"max_cost": -1}, "/max_cost"),
    ({"quote_id": "x" * 1001}, "/quote_id"),
    ({"client_reference": "a\nb"}, "/client_reference"),
    ({"surprise": 1}, "/surprise"),
    ({"a/b~": 1}, "/a~1b~0"),
]


@pytest.mark.parametrize(("wrong", "pointer"), BAD_ORDERS, ids=[str(wrong)[:40] for wrong, _ in BAD_ORDERS])
async def test_bad_orders_are_refused_by_pointer(world: World, wrong: dict[str, Any], pointer: str) -> None:
    person = await world.person(granted=100)
    before = await person.traces()
    reply = await person.submit(**wrong, headers={"Idempotency-Key": "k"})
    assert reply.status_code == 422, reply.text
    problem = reply.json()
    assert problem["code"] == "validation-failed"
    assert pointer in [entry["pointer"] for entry in problem["errors"]]
    assert "music" not in reply.text, "what was sent is not repeated"
    assert await person.traces() == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b'{"type":"text","prompt":"\xff"}', 400),
        (b'"text"', 422),
        (b"[" * 200_000, 400),
        (b'{"type":"text","prompt":"\\ud800"}', 422),
        (b'{"type":"text","prompt":"x","max_cost":1e999}', 422),
        (b'{"type":"text","prompt":"x","max_cost":NaN}', 422),
        (b'{"type":"text","prompt":"x","max_cost":' + b"9" * 5000 + b"}", 400),
    ],
)
async def test_bodies_that_are_not_what_they_say(world: World, content: bytes, status: int) -> None:
    person = await world.person(granted=100)
    before = await person.traces()
    reply = await person("POST", "/v1/generations", content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert await person.traces() == before


async def test_only_json_is_read(world: World) -> None:
    person = await world.person(granted=100)
    reply = await person("POST", "/v1/generations", data={"type": "text"})
    assert (reply.status_code, reply.json()["code"]) == (415, "unsupported-media-type")
