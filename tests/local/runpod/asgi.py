"""The few lines of ASGI between a socket and the platform: read a body, answer JSON, notice a hang-up, hang up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import orjson

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

Result = TypeVar("Result")

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Gone(Exception):
    """The client hung up before it had its answer."""


class TooLarge(Exception):
    """The body is over the limit. What came above it was read and thrown away."""


@dataclass(frozen=True)
class Address:
    """`/v2/{endpoint_id}/{operation}/{rest}`, taken apart; what is missing is empty."""

    endpoint_id: str
    operation: str
    rest: list[str]


def address(scope: Scope) -> Address:
    """Take the request's path apart."""
    path: str = scope["path"]
    endpoint_id, _, behind = path.removeprefix("/v2/").partition("/")
    operation, _, rest = behind.partition("/")
    return Address(endpoint_id, operation, rest.split("/") if rest else [])


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Read the whole body. Raises TooLarge, Gone."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        more = message.get("more_body", False)
    if size > limit_bytes:
        raise TooLarge
    return b"".join(chunks)


async def answer(send: Send, status: int, body: Any = None, headers: Mapping[str, str] = NO_HEADERS) -> None:
    """Send one JSON answer; a 204 has no body."""
    content = b"" if status == 204 else orjson.dumps(body)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    if content:
        raw += [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def header(scope: Scope, name: bytes) -> str | None:
    """Find one request header by its lower-case name."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def unless_gone(receive: Receive, work: Awaitable[Result]) -> Result:
    """Wait for `work`, but give it up when the client hangs up. Raises Gone. Call after the body was read."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone
    finally:
        working.cancel()
        leaving.cancel()


async def until_gone(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hang_up(receive: Receive, send: Send, seconds: float) -> None:
    """Give no answer: hold the line for `seconds` or until the client leaves, then cut it.

    ASGI has no word for cutting a connection; uvicorn's `send` is bound to the cycle that owns the transport.
    """
    try:
        async with asyncio.timeout(seconds):
            await until_gone(receive)
    except TimeoutError:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()
            await until_gone(receive)
