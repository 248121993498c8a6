"""Every door of a person's that only reads, the quote too, reads people's rows as that person and never as the owner.

The doors are those that the app has, and the tables those that the catalog says are people's: a new door that forgets
`State.reading_as` is named here, whether it asks a table or a function that reads.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from api import estimates, history, waiting
from api.auth import SESSION_COOKIE, SignedIn, require_admin, require_person
from api.settings import ApiSettings
from api.state import state_of
from api.web.session import visitor
from shared import ledger, plans, sql
from shared.database import Connection, Pool
from shared.generations import State
from tests.api.conftest import Caller, World, open_world
from tests.api.ladder import climb
from tests.api.test_events import served
from tests.local.issuer import Issuer

LOOK_SECONDS = 0.7
"""How long a stream is followed."""
_WATCHED = ("fetch", "fetchrow", "fetchval", "execute")
_HARMLESS = ("transaction", "is_in_transaction")
_LINES = sql.load(waiting.__file__)
EVERYBODYS = {*sql.load(estimates.__file__).values(), *(_LINES[name] for name in ("line", "clock", "further"))}
"""The lines, of which a reply tells how many are ahead and how long they take."""

Said = list[tuple[str, str]]
"""The role that each statement ran as, and the statement."""


class WatchedConnection:
    """A connection that writes down who it is before each statement."""

    def __init__(self, connection: Connection, said: Said) -> None:
        self._connection = connection
        self._said = said

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)
        if name not in _WATCHED:
            assert name in _HARMLESS, f"nobody would see what {name} asks"
            return method

        async def asked(statement: str, *arguments: Any, **options: Any) -> Any:
            role = await self._connection.fetchval("SELECT current_user")
            self._said.append((role, statement))
            return await method(statement, *arguments, **options)

        return asked


@dataclass
class WatchedPool:
    """The API's pool, overheard."""

    pool: Pool
    said: Said = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def acquire(self, *, timeout: float) -> AsyncIterator[WatchedConnection]:  # noqa: ASYNC109 - as asyncpg's
        async with self.pool.acquire(timeout=timeout) as connection:
            yield WatchedConnection(connection, self.said)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A served world with somebody in it, and what its API says to Postgres.

    Attributes:
        names: the tables of people's rows, and the functions that read them and that a person's session may call.
        made: something ended, a text that is being written, something held back.
    """

    world: World
    url: str
    said: Said
    names: re.Pattern[str]
    person: Caller
    made: list[UUID]
    cursor: str

    def asked(self) -> list[tuple[str, str]]:
        """Who asked for people's rows, and how."""
        plain = [(role, re.sub(r"--.*", "", text)) for role, text in self.said if text not in EVERYBODYS]
        return [(role, text) for role, text in plain if self.names.search(text)]


async def peoples(connection: Connection) -> re.Pattern[str]:
    rows = await connection.fetch(
        r"""SELECT format('\m%s\M', relname) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND obj_description(oid, 'pg_class') LIKE 'access: own rows.%'
            UNION ALL SELECT format('\m%s\(', proname) FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace AND provolatile = 's'
                AND has_function_privilege('authenticated', oid, 'EXECUTE')"""
    )
    names = [row[0].replace(r"\m", r"\b").replace(r"\M", r"\b") for row in rows]
    assert {r"\bgenerations\b", r"\bcredit_entries\b", r"\buser_billing\b", r"\bledger_decide\("} <= {*names}
    return re.compile("|".join(names))


async def somebody(world: World) -> tuple[Caller, list[UUID]]:
    async with world.pool.acquire() as connection:
        await plans.set_plan(connection, plan="one", key="one", terms={"max_in_flight": 1}, reason=None, actor="test")
        person = await world.person(granted=9, plan="one")
        made = []
        for state in (State.COMPLETED, State.RUNNING, None):
            made.append(UUID((await person.submit()).json()["id"]))
            if state is not None:
                await climb(connection, made[-1], state)
    assert (await person("GET", f"/v1/generations/{made[-1]}")).json()["queue"]["held_back"]
    return person, made


@pytest.fixture
async def watched(make_settings: Callable[..., ApiSettings], issuer: Issuer) -> AsyncIterator[Watched]:
    async with open_world(make_settings(), issuer) as world, served(world) as url:
        person, made = await somebody(world)
        cursor = (await person("GET", "/v1/generations?limit=1")).json()["next_cursor"]
        async with world.pool.acquire() as connection:
            names = await peoples(connection)
        pool = WatchedPool(world.pool)
        world.app.state.twin = replace(world.state, pool=cast("Pool", pool))
        yield Watched(world=world, url=url, said=pool.said, names=names, person=person, made=made, cursor=cursor)


@dataclass(frozen=True)
class Door:
    method: str
    path: str


def calls(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from calls(each)


def peoples_doors(world: World) -> list[Door]:
    """Those that only read, ask who one is, and are not for the staff alone."""
    found = []
    for route in iter_route_contexts(world.app.routes):
        if not isinstance(route.original_route, APIRoute):
            continue
        whose, path = {*calls(route.dependant)}, str(route.path)
        if whose & {require_person, visitor} and require_admin not in whose:
            if "GET" in (route.methods or ()):
                found.append(Door("GET", path))
            elif route.operation_id == "createQuote":
                found.append(Door("POST", path))
    return found


async def visit(watched: Watched, door: Door, generation_id: UUID) -> None:
    """Ask, and follow a stream for a moment."""
    bearer = watched.world.headers(watched.person.user_id)["Authorization"]
    headers = {
        "authorization": bearer,
        "cookie": f"{SESSION_COOKIE}={bearer.removeprefix('Bearer ')}",
        "hx-request": "true",
    }
    path = door.path.format(generation_id=generation_id)
    query = {"before": watched.cursor} if path == "/history" else {}
    order = {"type": "image", "batch_size": 2} if door.method == "POST" else None
    async with (
        httpx.AsyncClient(base_url=watched.url, trust_env=False, headers=headers) as client,
        client.stream(door.method, path, params=query, json=order) as reply,
    ):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await reply.aread()
        assert reply.status_code == 200, (path, reply.status_code)


async def test_each_reads_as_the_person(watched: Watched) -> None:
    doors = peoples_doors(watched.world)
    known = {"/", "/live", "/quote", "/v1/quotes", "/v1/credits/statement", "/v1/generations/{generation_id}"}
    assert known <= {door.path for door in doors}
    for door in doors:
        for generation_id in watched.made if "{generation_id}" in door.path else watched.made[:1]:
            watched.said.clear()
            await visit(watched, door, generation_id)
            asked = watched.asked()
            assert [text for role, text in asked if role != "authenticated"] == [], door
            assert asked, f"{door} asked for nothing of the person's, so nothing is known of it"


async def test_what_is_everybodys_asks_for_nobody() -> None:
    assert not [text for text in EVERYBODYS if "user_id" in text]


async def test_one_that_forgets_is_named(watched: Watched) -> None:
    generation_id = watched.made[0]

    async def by_table(request: Request, person: SignedIn) -> None:
        async with state_of(request).connection() as connection:
            await history.one(connection, generation_id, user_id=person.user_id)

    async def by_function(request: Request, person: SignedIn) -> None:
        async with state_of(request).connection() as connection:
            await ledger.balance(connection, user_id=person.user_id)

    for forgets in (by_table, by_function):
        watched.world.app.add_api_route(f"/v1/{forgets.__name__}", forgets)
        [door] = [door for door in peoples_doors(watched.world) if door.path.endswith(forgets.__name__)]
        watched.said.clear()
        await visit(watched, door, generation_id)
        assert [role for role, _ in watched.asked()] != ["authenticated"], forgets
        assert len(watched.asked()) == 1, forgets
