"""What takes a process a moment when it starts, and would take it of every test that has an app, a client or a pool."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from fastapi import params
from fastapi.routing import _build_dependant_with_parameterless_dependencies as build_dependant
from fastapi.utils import create_model_field


def keep(patched: pytest.MonkeyPatch, *, server_url: str) -> None:
    """Find each of it out once, as long as the patches last."""
    # The routes are the same in every app, and their names are in the key.
    patched.setattr("fastapi.routing.create_model_field", cache(create_model_field))
    patched.setattr("fastapi.routing._build_dependant_with_parameterless_dependencies", _dependants())
    patched.setattr("httpx._transports.default.create_ssl_context", cache(httpx.create_ssl_context))
    patched.setattr("asyncpg.Connection._introspect_types", _types(server_url))


def _dependants() -> Callable[..., Any]:
    """What a route's function asks for."""

    @cache
    def built(path: str, call: Callable[..., Any], *dependencies: params.Depends) -> Any:
        return build_dependant(path=path, call=call, dependencies=dependencies)

    def of(*, path: str, call: Callable[..., Any], dependencies: Sequence[params.Depends]) -> Any:
        return built(path, call, *dependencies)

    return of


def _types(server_url: str) -> Callable[..., Any]:
    """What a type of the tests' server is: asyncpg asks it anew on every connection. The server numbers a type once,
    whatever databases it has, and those copied from one another have the same.
    """
    port, known = urlsplit(server_url).port, dict[frozenset[int], Any]()
    connections: Any = asyncpg.Connection
    ask = connections._introspect_types

    async def told(connection: Any, numbers: Sequence[int], *patience: Any) -> Any:
        wanted = frozenset(numbers)
        if connection._addr[1] != port:
            return await ask(connection, numbers, *patience)
        if wanted not in known:
            known[wanted] = await ask(connection, numbers, *patience)
        return known[wanted]

    return told
