"""`twin` in this process, on a real Postgres; tests/cli/test_program.py runs the program itself."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from api.cli.app import app
from shared import ledger
from shared.database import Connection, prepare_connection

T = TypeVar("T")


@dataclass
class Desk:
    """An operator's terminal, and a look at what the commands did."""

    database_url: str

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        """Run a command that must end with this exit code."""
        result = CliRunner().invoke(app, arguments, prog_name="twin", env={"DATABASE_URL": self.database_url})
        assert result.exit_code == code, f"{result.exit_code}: {result.output}"
        return result

    def read(self, *arguments: str) -> Any:
        """The JSON that a command prints; a list when it prints several lines."""
        printed = [json.loads(line) for line in self(*arguments, "--json").stdout.splitlines()]
        return printed[0] if len(printed) == 1 else printed

    def refused(self, *arguments: str, code: int = 1) -> str:
        """The sentence with which a command refuses; nothing is on stdout."""
        result = self(*arguments, code=code)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        return result.stderr.splitlines()[-1]

    def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do something in the database, past the commands."""

        async def connected() -> T:
            connection = await asyncpg.connect(self.database_url)
            try:
                await prepare_connection(connection)
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def available(self, user_id: str) -> int:
        """What somebody can spend."""
        return self.run(lambda connection: ledger.balance(connection, user_id=user_id)).available

    def last_act(self, scope: str) -> Any:
        """The newest row of the audit log about somebody."""
        acts = self.read("operations", "--scope", scope, "--limit", "1")
        assert isinstance(acts, dict)
        return acts

    def charge(self, user_id: str, amount: int) -> UUID:
        """A generation for which this person was charged."""
        generation_id = uuid4()

        async def work(connection: Connection) -> None:
            held = await ledger.reserve(
                connection,
                user_id=user_id,
                key=f"reserve:{generation_id}",
                generation_id=generation_id,
                amount=amount,
                expires_at=datetime.now(UTC) + timedelta(hours=1),
                price={"price_version": 1, "type": "text", "unit_credits": 1, "batch_size": amount,
                       "multiplier_permille": 1000, "total": amount},
            )  # fmt: skip
            assert held.hold_id is not None
            await ledger.capture(connection, hold_id=held.hold_id, key=f"capture:{generation_id}", amount=amount)

        self.run(work)
        return generation_id


@pytest.fixture
def twin(database_url: str) -> Desk:
    return Desk(database_url)


@pytest.fixture
def user() -> str:
    """Somebody nobody has seen."""
    return f"user_{token_hex(6)}"
