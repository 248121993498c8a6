"""One small wrong in a migrated database."""

import os
from dataclasses import dataclass

from shared.database import Connection

CHOSEN = "TWIN_MUTANT"
"""The environment variable that names the mutant which a test session's template carries."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """In the function of that name, `old` is found once and becomes `new`; or `statement` is executed."""

    name: str
    function: str = ""
    old: str = ""
    new: str = ""
    statement: str = ""

    async def statements(self, connection: Connection) -> str:
        """What makes the wrong. ValueError when the database has changed under the mutant."""
        if self.statement:
            return self.statement
        definition: str = await connection.fetchval("SELECT pg_get_functiondef($1::regproc)", self.function)
        found = definition.count(self.old)
        if found != 1:
            msg = f"{self.name}: its text is found {found} times in {self.function}"
            raise ValueError(msg)
        return definition.replace(self.old, self.new)


async def apply_chosen(connection: Connection) -> None:
    """Make the wrong that the environment asks for, if it asks for one."""
    name = os.environ.get(CHOSEN)
    if name:
        from tests.mutants.catalogue import every_mutant

        await connection.execute(await (await every_mutant(connection))[name].statements(connection))
