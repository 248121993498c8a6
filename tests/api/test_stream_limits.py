"""One person follows so many streams at once, and no more."""

import asyncio
import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable
from functools import partial
from typing import cast
from uuid import UUID

import pytest
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from api.auth import Person
from api.events import follow_generation
from api.hub import LISTENERS_PER_PERSON, Hub
from api.news import follow_account
from api.web.live import live
from shared.errors import TwinError
from tests.api.conftest import World


def test_one_person_holds_so_many_streams_and_no_more() -> None:
    hub = Hub()
    with contextlib.ExitStack() as stack:
        for _ in range(LISTENERS_PER_PERSON):
            hub.expect_room("a")
            stack.enter_context(hub.listen("a"))
        with pytest.raises(TwinError):
            hub.expect_room("a")
        hub.expect_room("b")
    hub.expect_room("a")


async def test_streams_that_are_asked_for_at_the_same_moment_are_no_more(world: World) -> None:
    """Each finds room before the first has taken its own: those that come too late to be refused end at once."""
    person = await world.person(granted=10)
    generation_id = UUID((await person.submit()).json()["id"])
    request = Request({"type": "http", "app": world.app, "headers": []})
    who = Person(person.user_id, session_id="one", actor=None, is_admin=False)
    doors: list[Callable[..., Awaitable[Response]]] = [
        partial(follow_generation, generation_id=generation_id),
        follow_account,
        live,
    ]

    async def read(stream: AsyncIterable[object]) -> None:
        async for _ in stream:
            pass

    for ask in doors:
        asked = [await ask(request, who) for _ in range(LISTENERS_PER_PERSON + 5)]
        reading = [asyncio.create_task(read(cast("StreamingResponse", reply).body_iterator)) for reply in asked]
        try:
            async with asyncio.timeout(10):
                while sum(task.done() for task in reading) < 5:
                    await asyncio.sleep(0)
            assert not world.state.hub.has_room(person.user_id)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
