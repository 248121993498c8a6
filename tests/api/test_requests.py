"""What every request meets: ids, errors that explain themselves, bounded bodies, headers."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI, Request

from api.errors import BUSY, Problems, install
from api.problems import KINDS
from api.requests import BODY_LIMIT_BYTES, BodyLimit, RequestFrame
from api.settings import ApiSettings
from api.state import ACQUIRE_SECONDS
from shared import errors as domain
from shared.database import UNREACHABLE, open_pool
from shared.errors import TwinError
from tests.api.conftest import PUBLIC_URL, World, open_world
from tests.local.issuer import Issuer
from tests.local.serving import serve


async def test_every_problem_explains_itself(world: World) -> None:
    reply = await world.client.get("/nowhere")
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert (reply.status_code, problem["status"], problem["code"]) == (404, 404, "not-found")
    assert problem["type"] == f"{PUBLIC_URL}/problems/not-found"
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert problem["retryable"] is False
    page = await world.client.get(problem["type"])
    assert page.status_code == 200
    assert page.json()["what_to_do"]
    assert (await world.client.get("/problems/nonsense")).status_code == 404


async def test_wrong_methods_name_the_right_ones(world: World) -> None:
    reply = await world.client.delete("/v1/pricing")
    assert (reply.status_code, reply.json()["code"], reply.headers["allow"]) == (405, "method-not-allowed", "GET")


def test_every_domain_error_that_a_door_can_meet_has_a_kind() -> None:
    inside = {"error", "configuration-refused", "unknown-hold", "hold-not-open", "hold-exists", "over-capture"}
    found = {error.code for error in _all(TwinError)}
    assert found - inside <= set(KINDS)
    assert domain.KeyReused.code in KINDS
    assert BUSY


def _all(kind: type[TwinError]) -> set[type[TwinError]]:
    return {kind}.union(*(_all(narrower) for narrower in kind.__subclasses__()))


@pytest.mark.parametrize(
    ("offered", "kept"), [("abc-1.2_Z", True), ("x" * 129, False), ("two words", False), ("", False)]
)
async def test_request_ids_are_echoed_when_they_are_tame(world: World, offered: str, kept: bool) -> None:
    reply = await world.client.get("/healthz", headers={"X-Request-Id": offered})
    assert (reply.headers["x-request-id"] == offered) is kept
    assert reply.headers["x-request-id"]


async def test_browsers_are_told_to_be_careful(world: World) -> None:
    headers = (await world.client.get("/healthz")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]


async def test_a_body_of_fifty_megabytes_is_refused_unread(world: World) -> None:
    person = await world.person(granted=10)
    before = await person.traces()
    seen = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal seen
        for _ in range(50):
            seen += 1
            yield b"x" * 1024 * 1024

    announced = await person(
        "POST",
        "/v1/generations",
        content=body(),
        headers={"Content-Type": "application/json", "Content-Length": str(50 * 1024 * 1024)},
    )
    chunked = await person("POST", "/v1/generations", content=body(), headers={"Content-Type": "application/json"})
    for reply in (announced, chunked):
        assert (reply.status_code, reply.json()["code"]) == (413, "body-too-large")
    assert await person.traces() == before


async def test_a_body_at_the_limit_is_read(world: World) -> None:
    person = await world.person(granted=10)
    content = b'{"type":"text","prompt":"x"' + b" " * (BODY_LIMIT_BYTES - 28) + b"}"
    assert len(content) == BODY_LIMIT_BYTES
    headers = {"Content-Type": "application/json"}
    assert (await person("POST", "/v1/generations", content=content, headers=headers)).status_code == 202
    assert (await person("POST", "/v1/generations", content=content + b" ", headers=headers)).status_code == 413


async def test_a_body_that_never_ends_is_let_go_of() -> None:
    app = FastAPI()
    problems = Problems(PUBLIC_URL)
    install(app, problems)
    left: list[bool] = []

    @app.post("/")
    async def read(request: Request) -> bool:
        await request.body()
        left.append(await request.is_disconnected())
        return True

    guarded = RequestFrame(BodyLimit(app, problems=problems, seconds=0.1), problems=problems, secure=False)
    async with serve(guarded) as origin, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(origin.rpartition(":")[2]))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        said = await reader.read()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient(base_url=origin, trust_env=False) as client:
            assert (await client.post("/", content=b"{}")).status_code == 200
    assert said.startswith(b"HTTP/1.1 408"), "and the connection is closed, or reading it would not end"
    assert b'"request-timeout"' in said
    assert left == [False]


async def test_postgres_away_is_said_and_retryable(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    async with open_world(make_settings(), issuer) as world:
        person = await world.person(granted=10)
        await world.pool.close()
        reply = await person.submit()
        assert (reply.status_code, reply.json()["code"], reply.json()["retryable"]) == (503, "unavailable", True)
        assert reply.headers["retry-after"]
        assert (await world.client.get("/healthz")).status_code == 200
        ready = await world.client.get("/readyz")
        assert ready.status_code == 503
        assert "Postgres" in ready.json()["detail"]
        known = (await world.client.get("/ops/queue", headers=world.headers("a", role="admin"))).json()
        assert known["depth"] is None
        assert known["bells"] == 0
        assert "twin_queue_depth{" not in (await world.client.get("/metrics")).text


@pytest.mark.parametrize("nowhere", ["postgresql://x@no-such-host.invalid/x", "postgresql://x@/x?host=/no/such/folder"])
async def test_postgres_away_is_away_however_that_is_said(
    make_settings: Callable[..., ApiSettings], nowhere: str
) -> None:
    with pytest.raises(UNREACHABLE):
        await open_pool(make_settings(database_url=nowhere), application_name="test")


async def test_a_pool_that_gives_nothing_is_not_waited_for(
    make_settings: Callable[..., ApiSettings], issuer: Issuer
) -> None:
    async with open_world(make_settings(database_pool_size=1), issuer) as world, world.pool.acquire():
        reply = await asyncio.wait_for(world.client.get("/v1/pricing"), ACQUIRE_SECONDS + 5)
    assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")


async def test_what_nobody_expected_is_a_problem_too(world: World) -> None:
    @world.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    reply = await world.client.get("/broken")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal-error")
    assert "secret" not in reply.text


async def test_browsers_elsewhere_by_invitation(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    async with open_world(make_settings(cors_origins="https://app.example"), issuer) as world:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "idempotency-key"}
        invited = await world.client.options("/v1/generations", headers={"Origin": "https://app.example", **asked})
        assert invited.headers["access-control-allow-origin"] == "https://app.example"
        stranger = await world.client.options("/v1/generations", headers={"Origin": "https://evil.example", **asked})
        assert "access-control-allow-origin" not in stranger.headers

        @world.app.get("/broken")
        async def broken() -> None:
            raise RuntimeError

        too_large = {"Origin": "https://app.example", "Content-Length": str(BODY_LIMIT_BYTES + 1)}
        for refused in (
            await world.client.get("/broken", headers={"Origin": "https://app.example"}),
            await world.client.post("/v1/quotes", headers=too_large, content=b""),
        ):
            assert refused.status_code in (413, 500)
            assert refused.headers["access-control-allow-origin"] == "https://app.example"
            assert "X-Request-Id" in refused.headers["access-control-expose-headers"]


async def test_many_at_once_share_the_pool(world: World) -> None:
    person = await world.person(granted=10)
    replies = await asyncio.gather(*(person("GET", "/v1/credits") for _ in range(50)))
    assert {reply.status_code for reply in replies} == {200}


async def test_the_description_is_complete(world: World) -> None:
    schema = (await world.client.get("/openapi.json")).json()
    assert schema["openapi"].startswith("3.1")
    ids = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert "Problem" in schema["components"]["schemas"]
    created = schema["paths"]["/v1/generations"]["post"]["responses"]
    assert {"201", "202", "4XX", "5XX"} <= set(created)
