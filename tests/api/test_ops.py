"""For whoever runs this: alive, ready, waiting, counted; and outputs by signed address."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from api.settings import ApiSettings
from shared import verifications
from shared.errors import ConfigurationRefused
from shared.generations import State
from shared.settings import read
from tests.api.conftest import Caller, World, open_world
from tests.api.ladder import climb
from tests.local.databases import Databases
from tests.local.issuer import Issuer


async def test_ready_when_everything_answers(world: World) -> None:
    assert (await world.client.get("/readyz")).json() == {"status": "ready"}


async def test_not_ready_without_the_schema(
    make_settings: Callable[..., ApiSettings], issuer: Issuer, empty_database_url: str
) -> None:
    async with open_world(make_settings(database_url=empty_database_url), issuer) as world:
        reply = await world.client.get("/readyz")
        assert (reply.status_code, reply.json()["code"]) == (503, "not-ready")
        assert "not applied yet" in reply.json()["detail"]


async def test_the_queue_is_counted_for_admins(world: World, databases: Databases) -> None:
    admin = Caller(world, "user_admin", role="admin")
    person = await world.person(granted=100)
    before = (await admin("GET", "/ops/queue")).json()
    for state in (State.RESERVED, State.SUBMITTED, State.COMPLETED):
        generation_id = UUID((await person.submit()).json()["id"])
        if state is not State.RESERVED:
            async with world.pool.acquire() as connection:
                await climb(connection, generation_id, state)
    after = (await admin("GET", "/ops/queue")).json()
    assert after["depth"] - before["depth"] == 1
    assert after["in_flight"] - before["in_flight"] == 1
    assert after["states"]["submitted"] - before["states"]["submitted"] == 1
    assert after["open_holds"] - before["open_holds"] == 2
    queue = world.state.queue  # a busy machine may miss a ring, so what waits is counted there, not here
    assert after["bells"] == await queue.zcard(queue.default_queue_name)
    assert after["oldest_wait_seconds"] > 0
    assert (await person("GET", "/ops/queue")).status_code == 403
    assert (await world.client.get("/ops/queue")).status_code == 401


async def test_the_last_verification_of_the_ledger_is_told(world: World) -> None:
    admin = Caller(world, "user_admin", role="admin")
    person = await world.person(granted=100)
    assert "verification" not in (await admin("GET", "/ops/queue")).json()
    assert not {"twin_ledger_findings", "twin_ledger_verified_timestamp_seconds"} & (await _samples(world)).keys()
    done = await verifications.run(world.pool)
    told = (await admin("GET", "/ops/queue")).json()["verification"]
    assert told["ok"], told
    assert (told["findings"], told["first_findings"], told["since"]) == (0, [], None)
    assert datetime.fromisoformat(told["at"]) == done.finished_at
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE user_billing SET posted = posted + 1 WHERE user_id = $1", person.user_id)
    try:
        bad = await verifications.run(world.pool)
        told = (await admin("GET", "/ops/queue")).json()["verification"]
        assert not told["ok"]
        assert told["findings"] == 2
        assert (told["first_findings"][0]["table"], told["first_findings"][0]["key"]) == (
            "user_billing",
            person.user_id,
        )
        samples = await _samples(world)
        assert samples["twin_ledger_findings"] == 2
        assert samples["twin_ledger_verified_timestamp_seconds"] == bad.finished_at.timestamp()
    finally:
        await world.pool.execute("UPDATE user_billing SET posted = posted - 1 WHERE user_id = $1", person.user_id)


async def _samples(world: World) -> dict[str, float]:
    metrics = (await world.client.get("/metrics")).text
    return {
        sample.name: sample.value for family in text_string_to_metric_families(metrics) for sample in family.samples
    }


async def test_metrics_parse_and_say_what_is_waiting(world: World) -> None:
    person = await world.person(granted=100)
    await person.submit()
    reply = await world.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    found = {family.name for family in text_string_to_metric_families(reply.text)}
    assert {
        "twin_queue_depth",
        "twin_queue_oldest_age_seconds",
        "twin_generations",
        "twin_holds_open",
        "twin_queue_bells",
        "twin_submissions",
        "twin_http_request_seconds",
    } <= found
    assert 'route="/v1/generations"' in reply.text


async def test_metrics_behind_a_token(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    async with open_world(make_settings(metrics_token=SecretStr("abc")), issuer) as world:
        for headers in ({}, {"Authorization": "Bearer abd"}, {"Authorization": "Bearer "}):
            assert (await world.client.get("/metrics", headers=headers)).status_code == 403
        assert (await world.client.get("/metrics", headers={"Authorization": "Bearer abc"})).status_code == 200


async def test_metrics_are_not_public_in_production(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    production = {"mode": "production", "public_url": "https://twin.example"}
    async with open_world(make_settings(**production), issuer) as world:
        assert (await world.client.get("/metrics")).status_code == 404
    async with open_world(make_settings(**production, metrics_token=SecretStr("abc")), issuer) as world:
        assert (await world.client.get("/metrics", headers={"Authorization": "Bearer abc"})).status_code == 200


async def test_outputs_by_signed_address(world: World) -> None:
    person = await world.person(granted=100)
    content = b"\x89PNG" + bytes(600_000)
    generation_id = UUID((await person.submit(type="image")).json()["id"])
    key = f"generations/{generation_id}/1-0.png"
    await world.state.storage.put(key, content)
    output = {"index": 0, "kind": "image", "media_type": "image/png", "key": key, "width": 1}
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, State.COMPLETED, outputs=[output])
    shown = (await person("GET", f"/v1/generations/{generation_id}")).json()["outputs"][0]
    assert "key" not in shown
    reply = await world.client.get(shown["url"])
    assert reply.content == content
    assert reply.headers["content-type"] == "image/png"
    assert reply.headers["content-length"] == str(len(content))
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert "immutable" in reply.headers["cache-control"]
    for asked, (first, last) in {
        "bytes=0-": (0, len(content) - 1),
        "bytes=2-5": (2, 5),
        "bytes=600000-9999999": (600_000, len(content) - 1),
        "bytes=-4": (len(content) - 4, len(content) - 1),
        "bytes=-99999999": (0, len(content) - 1),
    }.items():
        part = await world.client.get(shown["url"], headers={"Range": asked})
        assert (part.status_code, part.content) == (206, content[first : last + 1]), asked
        assert part.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
        assert part.headers["content-length"] == str(last + 1 - first)
    for asked in (f"bytes={len(content)}-", f"bytes={len(content)}-{len(content)}", "bytes=-0"):
        none = await world.client.get(shown["url"], headers={"Range": asked})
        assert (none.status_code, none.json()["code"]) == (416, "range-not-satisfiable"), asked
        assert none.headers["content-range"] == f"bytes */{len(content)}"
    for asked in ("bytes=0-1,4-5", "lines=1-2", "bytes=5-2", "bytes=-", "bytes"):
        assert (await world.client.get(shown["url"], headers={"Range": asked})).status_code == 200
    since = {"Range": "bytes=0-1", "If-Range": '"x"'}
    assert (await world.client.get(shown["url"], headers=since)).status_code == 200
    head = await world.client.head(shown["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(len(content)), "bytes")
    for token in (
        "x",
        shown["url"].rpartition("/")[2][:-2] + "AA",
        world.state.cursors.sign(b"9999999999 text/html x"),
    ):
        refused = await world.client.get(f"/v1/media/{token}")
        assert (refused.status_code, refused.json()["code"]) == (403, "invalid-token")
    for nowhere in (f"generations/{generation_id}/none.png", f"generations/{uuid4()}/1-0.png", "x"):
        gone = world.state.storage.sign({"media_type": "image/png", "key": nowhere})
        assert (await world.client.get(gone)).status_code == 404


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CLERK_ISSUER", "clerk.example", "https://"),
        ("CORS_ORIGINS", "*", "not an origin"),
        ("CLERK_AUTHORIZED_PARTIES", "https://app.example/path", "not an origin"),
        ("CLERK_JWT_KEY", "nonsense", "PEM"),
        ("PORT", "99999", "65535"),
        ("PUBLIC_URL", "https://api.example/path", "origin"),
        ("PUBLIC_URL", "https://me:word@api.example", "origin"),
        ("PUBLIC_URL", "https://api.example?x=1", "origin"),
        ("PUBLIC_URL", "https://api.example:port", "origin"),
        ("PUBLIC_URL", "https://", "origin"),
        ("PUBLIC_URL", "api.example", "origin"),
        ("TWIN_SECRET", "short", "TWIN_SECRET"),
    ],
)
def test_bad_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    good = {
        "TWIN_MODE": "local",
        "DATABASE_URL": "postgresql://x",
        "REDIS_URL": "redis://x",
        "TWIN_SECRET": "k1:" + "A" * 44,
        "PUBLIC_URL": "http://x",
        "CLERK_ISSUER": "https://x",
    }
    for variable, given in {**good, name: value}.items():
        monkeypatch.setenv(variable, given)
    with pytest.raises(ConfigurationRefused) as refused:
        read(ApiSettings)
    assert says in refused.value.detail
    assert name in refused.value.detail


def test_origins_are_kept_as_browsers_write_them(make_settings: Callable[..., ApiSettings]) -> None:
    assert make_settings(public_url="https://API.example:8443/").public_url == "https://api.example:8443"
    assert make_settings(cors_origins="http://[::1]:3000").cors_origins == ("http://[::1]:3000",)


def test_a_pem_may_come_on_one_line(issuer: Issuer, make_settings: Callable[..., ApiSettings]) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert make_settings(clerk_jwt_key=pem.decode().replace("\n", "\\n")).clerk_jwt_key == pem.decode()


async def test_postgres_must_answer_at_start(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> None:
    with pytest.raises((OSError, asyncpg.PostgresError)):
        async with open_world(make_settings(database_url="postgresql://nobody@127.0.0.1:1/none"), issuer):
            pass
