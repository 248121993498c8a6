"""A minimal HTTP/1.1 server on asyncio: keep-alive, Content-Length, one request after the other on a connection.

No routing table, no validation, no middleware, no chunked bodies: what the bare script needs and nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

_HEAD_END = b"\r\n\r\n"
_REASONS = {200: "OK", 202: "Accepted", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[[Request], Awaitable[tuple[int, bytes]]]


class Connection(asyncio.Protocol):
    """One client's connection. The handler gives a status and a JSON body."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = b""
        self._answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Collect, and answer when a request is whole."""
        self._buffer += data
        self._read()

    def _read(self) -> None:
        if self._answering is not None:
            return
        head, found, rest = self._buffer.partition(_HEAD_END)
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        method, path, _ = first.split(" ")
        self._answering = asyncio.create_task(self._answer(Request(method, path, headers, rest[:length])))

    async def _answer(self, request: Request) -> None:
        try:
            status, body = await self._handler(request)
        except Exception as error:  # the load and the gateway see it, and whoever measures stops
            status, body = 500, f"{type(error).__name__}: {error}".encode()
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head.encode() + _HEAD_END + body)
        self._answering = None
        self._read()
