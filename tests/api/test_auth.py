"""Who is let in: the same verifier for Clerk and for the local issuer."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from api.auth import SESSION_COOKIE
from api.jwks import COOL_DOWN_SECONDS, STALE_SECONDS, KeySet
from api.settings import ApiSettings
from shared.errors import TwinError
from tests.api.conftest import JWKS_URL, PUBLIC_URL, IssuerServer, World, open_world
from tests.local.issuer import KEY_ID, Issuer

FORGER = Issuer(rsa.generate_private_key(public_exponent=65537, key_size=2048))


async def answer(world: World, headers: dict[str, str]) -> httpx.Response:
    return await world.client.get("/v1/credits", headers=headers)


async def test_a_session_lets_its_person_in(world: World) -> None:
    assert (await answer(world, world.headers("user_1"))).status_code == 200


BAD_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://clerk.elsewhere.example"},
    {"azp": "https://evil.example"},
    {"azp": None},
    {"azp": [PUBLIC_URL]},
    {"azp": {}},
    {"act": "user_staff"},
    {"act": {}},
    {"act": {"sub": 7}},
    {"act": []},
    {"iat": []},
    {"exp": {}},
    {"sts": "pending"},
    {"exp": 1},
    {"nbf": 2**33},
    {"iat": 2**33},
    {"sub": ""},
    {"sub": 7},
    {"sub": "a\0b"},
    {"sub": "x" * 256},
    {"sid": None},
    {"exp": None},
    {"exp": "soon"},
]


@pytest.mark.parametrize("claims", BAD_CLAIMS, ids=str)
async def test_claims_that_do_not_count(world: World, claims: dict[str, Any]) -> None:
    payload = {**world.issuer_claims(), **claims}
    reply = await answer(world, world.sign({name: value for name, value in payload.items() if value is not None}))
    assert reply.status_code == 401, reply.text
    assert reply.json()["code"] == "not-signed-in"
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("missing", ["exp", "iat", "nbf", "iss", "sub", "sid", "azp"])
async def test_every_claim_is_needed(world: World, missing: str) -> None:
    payload = world.issuer_claims()
    del payload[missing]
    assert (await answer(world, world.sign(payload))).status_code == 401


async def test_five_seconds_of_leeway(world: World) -> None:
    now = int(time.time())
    assert (await answer(world, world.sign({**world.issuer_claims(), "exp": now - 2}))).status_code == 200
    assert (await answer(world, world.sign({**world.issuer_claims(), "exp": now - 9}))).status_code == 401


async def test_other_algorithms_are_refused(world: World) -> None:
    claims = world.issuer_claims()
    public = world.issuer.key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = jwt.api_jws.PyJWS().encode(b"{}", "s" * 32, algorithm="HS256", headers={"kid": KEY_ID})
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": KEY_ID})
    other = jwt.encode(claims, world.issuer.key, algorithm="PS256", headers={"kid": KEY_ID})
    nameless = jwt.encode(claims, world.issuer.key, algorithm="RS256")
    for token in (confused, unsigned, other, nameless, "a.b.c", "", "x" * 9000, pem.decode().replace("\n", "")):
        assert (await answer(world, {"Authorization": f"Bearer {token}"})).status_code == 401


async def test_a_thousand_forgeries_cause_one_fetch_at_most(world: World) -> None:
    await answer(world, world.headers("user_1"))
    before = world.issuer_server.fetches
    tokens = [
        jwt.encode(world.issuer_claims(), FORGER.key, algorithm="RS256", headers={"kid": f"ins_{n}"}) for n in range(10)
    ]
    replies = await asyncio.gather(*(answer(world, {"Authorization": f"Bearer {tokens[n % 10]}"}) for n in range(1000)))
    assert {reply.status_code for reply in replies} == {401}
    assert world.issuer_server.fetches - before <= 1


async def test_the_issuers_key_id_does_not_help_a_forger(world: World) -> None:
    forged = jwt.encode(world.issuer_claims(), FORGER.key, algorithm="RS256", headers={"kid": KEY_ID})
    assert (await answer(world, {"Authorization": f"Bearer {forged}"})).status_code == 401


async def test_admins_by_role_only_locally(
    make_settings: Callable[..., ApiSettings], issuer: Issuer, world: World
) -> None:
    assert (await world.client.get("/ops/queue", headers=world.headers("user_a"))).status_code == 403
    by_role = world.headers("user_a", role="admin")
    assert (await world.client.get("/ops/queue", headers=by_role)).status_code == 200
    impersonated = world.headers("user_a", role="admin", act={"sub": "user_staff"})
    assert (await world.client.get("/ops/queue", headers=impersonated)).status_code == 403
    production = make_settings(
        mode="production",
        public_url="https://twin.example",
        clerk_authorized_parties=(PUBLIC_URL,),
        secret=make_settings().secret.get_secret_value().replace("test:", "live:"),
        admins="user_b, user_c",
    )
    async with open_world(production, issuer) as live:
        assert (await live.client.get("/ops/queue", headers=live.headers("user_a", role="admin"))).status_code == 403
        assert (await live.client.get("/ops/queue", headers=live.headers("user_c"))).status_code == 200


async def test_the_cookie_is_a_session_for_this_site_alone(world: World) -> None:
    person = await world.person(granted=10)
    token = world.headers(person.user_id)["Authorization"].removeprefix("Bearer ")
    order = {"type": "text", "prompt": "x"}

    async def post(**headers: str) -> int:
        cookie = {"Cookie": f"{SESSION_COOKIE}={token}"}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await world.client.post("/v1/generations", json=order, headers={**cookie, **names})).status_code

    seen = await world.client.get("/v1/credits", headers={"Cookie": f"{SESSION_COOKIE}={token}"})
    assert seen.json()["available"] == 10
    assert await post() == 403
    assert await post(Sec_Fetch_Site="cross-site") == 403
    assert await post(Sec_Fetch_Site="same-site", Origin=PUBLIC_URL) == 403
    assert await post(Origin="https://evil.example") == 403
    assert await post(Sec_Fetch_Site="same-origin") == 202
    assert await post(Origin=PUBLIC_URL) == 202
    assert await post(Authorization="Bearer nonsense", Origin=PUBLIC_URL) == 401


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_keys_outlive_their_issuer_for_a_day(issuer: Issuer) -> None:
    server, clock = IssuerServer(issuer), Clock()
    async with httpx.AsyncClient(transport=server) as client:
        keys = KeySet(JWKS_URL, client=client, fallback_pem=None, clock=clock)
        key = await keys.key(KEY_ID)
        server.away = True
        clock.now += STALE_SECONDS - 1
        assert await keys.key(KEY_ID) == key
        clock.now += 2
        with pytest.raises(TwinError, match="cannot be checked"):
            await keys.key(KEY_ID)
        server.away = False
        clock.now += COOL_DOWN_SECONDS
        assert await keys.key(KEY_ID) == key


async def test_the_pem_key_stands_in(issuer: Issuer) -> None:
    server, clock = IssuerServer(issuer, away=True), Clock()
    pem = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    async with httpx.AsyncClient(transport=server) as client:
        keys = KeySet(JWKS_URL, client=client, fallback_pem=pem.decode(), clock=clock)
        assert await keys.key("anything") == issuer.key.public_key()
        server.away = False
        clock.now += COOL_DOWN_SECONDS
        with pytest.raises(TwinError, match="does not publish"):
            await keys.key("anything")
        clock.now += STALE_SECONDS + 1
        server.away = True
        assert await keys.key("anything") == issuer.key.public_key()


async def test_a_new_key_is_found_after_the_cool_down(issuer: Issuer) -> None:
    server, clock = IssuerServer(FORGER), Clock()
    async with httpx.AsyncClient(transport=server) as client:
        keys = KeySet(JWKS_URL, client=client, fallback_pem=None, clock=clock)
        await keys.key(KEY_ID)
        for _ in range(100):
            with pytest.raises(TwinError):
                await keys.key("ins_new")
        assert server.fetches == 1
        clock.now += COOL_DOWN_SECONDS
        await asyncio.gather(*(keys.key("ins_new") for _ in range(50)), return_exceptions=True)
        assert server.fetches == 2


ODD_KEYS = [
    {"kty": "RSA", "kid": "a", "n": 5, "e": "AQAB"},
    {"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AA"},
    {"kty": "RSA", "kid": "a", "n": [], "e": {}},
    {"kty": "RSA", "kid": "a", "n": "A" * 100_000, "e": "A" * 100_000},
    {"kty": "RSA", "kid": ["a"], "n": "", "e": ""},
]


@pytest.mark.parametrize("odd", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_one_odd_key_does_not_hide_the_others(issuer: Issuer, odd: object) -> None:
    document = {"keys": [odd, *issuer.jwks()["keys"]]}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=document))
    async with httpx.AsyncClient(transport=transport) as client:
        keys = KeySet(JWKS_URL, client=client, fallback_pem=None)
        assert await keys.key(KEY_ID) == issuer.key.public_key()


@pytest.mark.parametrize("document", [[], {}, {"keys": []}, {"keys": [7, {"kty": "EC"}, {"kty": "RSA", "n": "!"}]}])
async def test_a_strange_jwks_document_is_no_keys(document: object) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=document))
    async with httpx.AsyncClient(transport=transport) as client:
        keys = KeySet(JWKS_URL, client=client, fallback_pem=None)
        with pytest.raises(TwinError, match="cannot be checked"):
            await keys.key(KEY_ID)
