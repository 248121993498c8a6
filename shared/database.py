"""Postgres: one pool per process, opened at the edge and passed down."""

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson

from shared.settings import Settings

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CONNECT_TIMEOUT_SECONDS = 10
COMMAND_TIMEOUT_SECONDS = 15
STATEMENT_TIMEOUT_MILLISECONDS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MILLISECONDS = 15_000

UNREACHABLE = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    # asyncpg says this of a connection that is cut between two messages of its protocol
    asyncpg.InternalClientError,
    ConnectionError,
    TimeoutError,
)
"""What is raised when the database cannot be had just now; `_connect` makes every OSError of connecting one of them."""


async def prepare_connection(connection: Connection) -> None:
    """Read and write `json` and `jsonb` as Python values."""
    for type_name in ("json", "jsonb"):
        await connection.set_type_codec(
            type_name, schema="pg_catalog", encoder=_encode_json, decoder=orjson.loads, format="text"
        )


def _encode_json(value: Any) -> str:
    return orjson.dumps(value).decode()


class _LeanConnection(asyncpg.Connection):
    """A connection that is not reset between uses: nothing here changes session state or listens, and a reset is a
    round trip, and a timer even without one.

    A transaction that was left open is rolled back. That is no error: whoever goes away while it begins or ends, as a
    page that is closed does, leaves it so. asyncpg's own reset would call it one.
    """

    def get_reset_query(self) -> str:
        return ""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as asyncpg declares it
        if self.is_in_transaction():
            await self.execute("ROLLBACK", timeout=timeout)
        self._top_xact = None  # else the next transaction is a savepoint of one that never was


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(*arguments, **options)
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:  # no such name, no such socket, no route: away, like a refused connection
        raise ConnectionError(str(error)) from error
    return connection


async def open_pool(settings: Settings, *, application_name: str) -> Pool:
    """Open the process's pool. The caller closes it.

    Raises:
        OSError or asyncpg.PostgresError: Postgres cannot be reached or refuses us.
    """
    return await asyncpg.create_pool(
        settings.database_url.get_secret_value(),
        min_size=1,
        max_size=settings.database_pool_size,
        init=prepare_connection,
        connect=_connect,
        connection_class=_LeanConnection,
        timeout=CONNECT_TIMEOUT_SECONDS,
        command_timeout=COMMAND_TIMEOUT_SECONDS,
        statement_cache_size=settings.database_statement_cache_size,
        server_settings={
            "application_name": application_name,
            "statement_timeout": str(STATEMENT_TIMEOUT_MILLISECONDS),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MILLISECONDS),
        },
    )
