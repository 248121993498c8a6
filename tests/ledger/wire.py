"""A connection to Postgres of which somebody counts how often it waits for an answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

from shared.database import Connection, prepare_connection

CHUNK_BYTES = 1 << 16


@dataclass
class Turns:
    """How many round trips there were: how often the client spoke after it had been answered."""

    count: int = 0
    answered: bool = True

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool) -> None:
        """Pass on what one side says."""
        while said := await reader.read(CHUNK_BYTES):
            self.count += asks and self.answered
            self.answered = not asks
            writer.write(said)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def overheard(database_url: str) -> AsyncIterator[tuple[Connection, Turns]]:
    """A connection as in production, through somebody who counts."""
    address, turns = urlsplit(database_url), Turns()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_connection(address.hostname, address.port)
        await asyncio.gather(turns.carry(reader, questions, asks=True), turns.carry(answers, writer, asks=False))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await asyncpg.connect(database_url, host="127.0.0.1", port=port)
        await prepare_connection(connection)
        try:
            yield connection, turns
        finally:
            await connection.close()
