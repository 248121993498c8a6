"""`State.reading_as`: the policies stand behind every statement, and nothing of it outlives the read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from uuid import UUID

import asyncpg
import pytest

from api import history
from api.auth import SESSION_COOKIE
from api.settings import ApiSettings
from api.state import State
from shared import sql
from shared.database import UNREACHABLE
from shared.generations import State as Status
from tests.api.conftest import Caller, World, open_world
from tests.api.ladder import climb
from tests.local.issuer import Issuer
from tests.turns import at_every_turn, cut_before

ROLE_AND_CLAIMS = """
SELECT current_user = session_user AND current_setting('role') = 'none' AS owner,
    nullif(current_setting('request.jwt.claims', true), '') AS claims,
    nullif(current_setting('request.jwt.claim', true), '') AS claim,
    current_setting('transaction_read_only') AS read_only
"""
REFUSED = (
    asyncpg.ActiveSQLTransactionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
)
AS_BEFORE = {"owner": True, "claims": None, "claim": None, "read_only": "off"}


@pytest.fixture
async def world(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[World]:
    """One with a single connection, so that the next one to use it is known."""
    async with open_world(make_settings(database_pool_size=1), issuer) as opened:
        yield opened


async def left_behind(state: State) -> dict[str, object]:
    async with state.connection() as connection:
        row = await connection.fetchrow(ROLE_AND_CLAIMS)
        assert row is not None
        return dict(row)


async def submitted(person: Caller) -> UUID:
    reply = await person.submit()
    assert reply.status_code == 202, reply.text
    return UUID(reply.json()["id"])


async def test_within_it_one_is_the_person_and_writes_nothing(world: World) -> None:
    person = await world.person(granted=10)
    async with world.state.reading_as(person.user_id) as connection:
        row = await connection.fetchrow(
            "SELECT current_user, auth.jwt() AS jwt, current_setting('transaction_isolation') AS isolation"
        )
        assert row is not None
        assert tuple(row) == (
            "authenticated",
            {"sub": person.user_id, "role": "authenticated"},
            "repeatable read",
        )
        with pytest.raises(REFUSED):
            await connection.execute("UPDATE user_billing SET posted = 1000")
    assert await left_behind(world.state) == AS_BEFORE


async def test_a_statement_that_forgets_whose_rows_it_is_after_finds_no_others(world: World) -> None:
    person, other = await world.person(granted=10), await world.person(granted=10)
    theirs = await submitted(other)
    forgetful = "SELECT id FROM generations WHERE id = $1 OR true"
    async with world.state.reading_as(person.user_id) as connection:
        assert await connection.fetch(forgetful, theirs) == []
        assert await connection.fetch("SELECT FROM generation_transitions WHERE generation_id = $1", theirs) == []
        # As it is with a condition that asks for somebody else: the API's own statement, with another's name.
        assert await history.transitions(connection, theirs, user_id=other.user_id) == []
    assert (await person("GET", f"/v1/generations/{theirs}")).status_code == 404
    assert (await person("GET", f"/v1/generations/{theirs}/events")).status_code == 404
    async with world.state.reading_as(other.user_id) as connection:
        assert [row["id"] for row in await connection.fetch(forgetful, theirs)] == [theirs]
    # Nor do the policies stand alone: the statements ask for whose it is themselves.
    async with world.state.connection() as connection:
        assert await history.transitions(connection, theirs, user_id=person.user_id) == []


async def test_statements_agree_with_each_other(world: World) -> None:
    """One snapshot: what is committed in between is not seen, and no lock is waited for."""
    person = await world.person(granted=10)
    async with world.state.reading_as(person.user_id) as connection:
        before = await connection.fetchval("SELECT posted FROM user_billing")
        writer = await asyncpg.connect(world.state.settings.database_url.get_secret_value())
        await writer.execute("UPDATE user_billing SET low_balance_threshold = 77 WHERE user_id = $1", person.user_id)
        await writer.close()
        after = await connection.fetchrow("SELECT posted, low_balance_threshold FROM user_billing")
        assert after is not None
        assert after["posted"] == before
        assert after["low_balance_threshold"] != 77


@pytest.mark.parametrize("name", ['o"neil', "back\\slash", "{}", "ünïcödé ☂", "'; SET ROLE none; --", "%s $1"])
async def test_any_name_is_a_name_and_no_more(world: World, name: str) -> None:
    async with world.state.reading_as(name) as connection:
        assert await connection.fetchval("SELECT auth.jwt() ->> 'sub'") == name
        assert await connection.fetchval("SELECT current_user") == "authenticated"
        assert await connection.fetchval("SELECT count(*) FROM user_billing") == 0


@pytest.mark.parametrize(
    "sly",
    [
        "SELECT set_config('role', 'none', false)",
        "RESET ROLE",
        "SET ROLE none",
        "SET SESSION ROLE anon",
        'SET request.jwt.claims = \'{"sub": "other"}\'',
        "SELECT set_config('request.jwt.claim', '{\"sub\": \"other\"}', false)",
    ],
)
async def test_whoever_takes_another_role_inside_writes_nothing_and_leaves_nothing(world: World, sly: str) -> None:
    """Policies are for statements that forget, not for ones that are the attacker's; those end with the read."""
    person = await world.person(granted=10)
    async with world.state.reading_as(person.user_id) as connection:
        await connection.execute(sly)
        for way in (
            "SET TRANSACTION READ WRITE",
            "SELECT set_config('transaction_read_only', 'off', true)",
            "UPDATE user_billing SET posted = 1000",
        ):
            await connection.execute("SAVEPOINT before")  # so that the read itself ends well
            with pytest.raises(REFUSED):
                await connection.execute(way)
            await connection.execute("ROLLBACK TO before")
    assert await left_behind(world.state) == AS_BEFORE
    assert await person.available() == 10


async def test_a_claim_that_a_session_kept_is_not_believed(world: World) -> None:
    """auth.jwt() looks at request.jwt.claim first; behind a pooler the session may be anybody's."""
    person, other = await world.person(granted=10), await world.person(granted=10)
    async with world.state.connection() as connection:
        await connection.execute(f'SET request.jwt.claim = \'{{"sub": "{other.user_id}"}}\'')
    async with world.state.reading_as(person.user_id) as connection:
        assert [row["user_id"] for row in await connection.fetch("SELECT user_id FROM user_billing")] == [
            person.user_id
        ]


@contextlib.asynccontextmanager
async def blinded(database_url: str) -> AsyncIterator[None]:
    """While this lasts no policy lets anybody see a row of their own; the owner sees all, as ever."""
    owner = await asyncpg.connect(database_url)
    policies = await owner.fetch(
        "SELECT polrelid::regclass::text AS on, pg_get_expr(polqual, polrelid) AS condition FROM pg_policy"
        " WHERE pg_get_expr(polqual, polrelid) <> 'true'"
    )
    try:
        for policy in policies:
            await owner.execute(f"ALTER POLICY reading ON {policy['on']} USING (false)")
        yield
    finally:
        for policy in policies:
            await owner.execute(f"ALTER POLICY reading ON {policy['on']} USING ({policy['condition']})")
        await owner.close()


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        ("/v1/generations", "a lighthouse"),
        ("/v1/generations/{id}", "a lighthouse"),
        ("/v1/generations/{id}/events", "completed"),
        ("/v1/credits", '"granted":9973'),
        ("/v1/credits/entries", '"amount":9973'),
        ("/v1/credits/balance", '"posted":9972'),
        ("/v1/credits/statement", ",9973,"),
        ("/v1/credits/statement", ",9972,"),
        ("/v1/settings", "Asia/Kathmandu"),
        ("/", "a lighthouse"),
    ],
)
async def test_the_doors_look_with_the_persons_eyes(world: World, database_url: str, path: str, marker: str) -> None:
    """A door that read as the owner would go on showing what no policy shows any more."""
    person = await world.person(granted=9973, time_zone="Asia/Kathmandu")
    generation_id = await submitted(person)
    async with world.pool.acquire() as connection:
        await climb(connection, generation_id, Status.COMPLETED)
    cookie = f"{SESSION_COOKIE}={world.headers(person.user_id)['Authorization'].removeprefix('Bearer ')}"
    headers = {"cookie": cookie, "sec-fetch-site": "same-origin"}
    url = path.format(id=generation_id)
    assert marker in (await person("GET", url, headers=headers)).text
    async with blinded(database_url):
        assert marker not in (await person("GET", url, headers=headers)).text
    assert marker in (await person("GET", url, headers=headers)).text


async def read(state: State, user_id: str) -> None:
    async with state.reading_as(user_id) as connection:
        await connection.fetch("SELECT FROM user_billing")


async def test_whatever_happens_inside_it_ends(world: World) -> None:
    person = await world.person(granted=10)
    said: list[Mapping[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    await read(world.state, person.user_id)
    assert await left_behind(world.state) == AS_BEFORE
    with pytest.raises(asyncpg.DivisionByZeroError):
        async with world.state.reading_as(person.user_id) as connection:
            await connection.execute("SELECT 1 / 0")
    assert await left_behind(world.state) == AS_BEFORE
    with pytest.raises(LookupError):
        async with world.state.reading_as(person.user_id):
            raise LookupError
    assert await left_behind(world.state) == AS_BEFORE
    assert said == []


async def test_a_connection_that_is_cut_inside_is_not_used_again(world: World, database_url: str) -> None:
    person = await world.person(granted=10)
    killer = await asyncpg.connect(database_url)

    async def cut() -> None:
        async with world.state.reading_as(person.user_id) as connection:
            await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
            await connection.fetch("SELECT 1")

    with pytest.raises(UNREACHABLE):
        await cut()
    await killer.close()
    assert await left_behind(world.state) == AS_BEFORE


async def test_cancelled_at_any_await_it_leaves_nothing(world: World) -> None:
    """Whichever turn of the loop it is cancelled in, the next one is the owner again, without claims.

    A page that is closed does it many times a day, so nothing is said of it.
    """
    person = await world.person(granted=10)
    said: list[Mapping[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    await read(world.state, person.user_id)

    async def cut(turn: int) -> bool:
        cut_off = await cut_before(turn, read(world.state, person.user_id))
        assert await left_behind(world.state) == AS_BEFORE, turn
        return cut_off

    assert await at_every_turn(cut) > 5
    assert said == []


async def test_each_type_is_found_through_its_index_by_a_person_too(world: World) -> None:
    """Equality of enums is not leakproof, so under a policy no index could be searched by a type."""
    page = sql.load(history.__file__)["page"]
    person = await world.person(granted=10)
    async with world.state.reading_as(person.user_id) as connection:
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        lines = await connection.fetch(f"EXPLAIN {page}", person.user_id, ["video"], [], None, None, 21)
    plan = "\n".join(line[0] for line in lines)
    assert "using generations_history_by_type" in plan, plan
    assert "(type_name = wanted.type)" in plan, plan
    assert "InitPlan" in plan, plan
    assert "Sort" not in plan.split("generations_history_by_type")[1], plan
