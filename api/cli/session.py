"""How commands on the database run: told where it is, in one transaction, with an exit code that says how.

0: done. 1: refused, or something wrong was found. 2: bad usage or configuration. 3: Postgres cannot be reached.
"""

import asyncio
import contextlib
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NoReturn, TypeVar

import asyncpg
import typer
from pydantic import Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.errors import BUSY
from shared.database import CONNECT_TIMEOUT_SECONDS, UNREACHABLE, Connection, prepare_connection
from shared.errors import ConfigurationRefused, TwinError
from shared.schema import SchemaError, require_current
from shared.settings import read

T = TypeVar("T")

REFUSED, MISUSED, UNREACHED = 1, 2, 3
_NOT_OURS = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""What is said at the end of a URL that leads to no database, or to none that we may use."""


class OperatorSettings(BaseSettings):
    """All that a command is told from outside."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")


def carry_out(act: Callable[[Connection], Awaitable[T]], *, transaction: bool = True) -> T:
    """Do something in the database, committed when it returns; whatever goes wrong ends the command with a sentence.

    `transaction`: False for what opens its own.
    """
    with _sentences():
        settings = read(OperatorSettings)
        return asyncio.run(_connected(settings.database_url.get_secret_value(), act, transaction=transaction))


async def _connected(database_url: str, act: Callable[[Connection], Awaitable[T]], *, transaction: bool) -> T:
    try:
        # No statement cache: the URL may lead to a transaction pooler.
        connection = await asyncpg.connect(
            database_url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "twin-cli"},
        )
    except ValueError as error:  # what it says may be a part of the password
        raise ConfigurationRefused(
            "DATABASE_URL: is not one such as postgresql://user:password@host:5432/database, percent-encoded."
        ) from error
    try:
        await prepare_connection(connection)
        await require_current(connection)
        async with connection.transaction() if transaction else contextlib.nullcontext():
            return await act(connection)
    finally:
        await connection.close()


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except (ConfigurationRefused, SchemaError) as error:
        give_up(str(error), MISUSED)
    except TwinError as error:
        give_up(error.detail, REFUSED)
    except BUSY:
        give_up("The database was too busy. Nothing was done; please try again.", UNREACHED)
    except _NOT_OURS as error:
        give_up(f"DATABASE_URL: {error}", MISUSED)
    except (*UNREACHABLE, OSError) as error:
        why = str(error) or type(error).__name__
        give_up(
            f"The database cannot be reached ({why}). Repeating with the same key or source-ref is safe.", UNREACHED
        )


def give_up(sentence: str, code: int) -> NoReturn:
    """End the command with one sentence on stderr."""
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


def checked(kind: Any, value: object) -> Any:
    """What was typed, as the API's own models take it; what does not fit ends the command."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        what = str(problem["msg"]).removeprefix("Value error, ")
        give_up(f"{where}: {what}" if where else f"{value!r}: {what}", MISUSED)


def given(**values: object) -> dict[str, object]:
    """What was typed, without what was left out."""
    return {name: value for name, value in values.items() if value is not None}


def whoever() -> str:
    """Who acts when nobody else is named: the operating system's user."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need not have a name
        return f"cli:{os.getuid()}"
