"""Tampers with somebody's ledger by hand, as `forgeries.sql` says, and knows by which row it must be named."""

from dataclasses import dataclass

from shared import sql
from shared.database import Connection

_SQL = sql.load(__file__)


@dataclass(frozen=True, slots=True)
class Forgery:
    """`kind` and `table` are those of the finding that must name it."""

    kind: str
    table: str
    statements: tuple[str, ...]

    async def commit(self, connection: Connection, user_id: str) -> str:
        """Do it, in the transaction that is open; return the key of the row."""
        await allow_everything(connection)
        for statement in self.statements:
            key = await connection.fetchval(statement, *([user_id] if "$1" in statement else []))
        assert key is not None, "nothing was tampered with"
        await connection.execute("SET LOCAL session_replication_role = origin")
        return str(key)


async def allow_everything(connection: Connection) -> None:
    """As somebody who may do anything: triggers and foreign keys are off, in this transaction."""
    await connection.execute(_SQL["prepare"])
    await connection.execute("SET LOCAL session_replication_role = replica")


def _read(text: str) -> Forgery:
    first, _, statements = text.partition("\n")
    kind, _, table = first.removeprefix("-- ").partition(": ")
    return Forgery(kind, table, tuple(statements.rstrip(";").split(";\n")))


FORGERIES = {name.replace("_", " "): _read(text) for name, text in _SQL.items() if name != "prepare"}
