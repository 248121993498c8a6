"""What a program prints when Postgres refuses a row: where it happened and why, and nothing that a person wrote."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, logging, sys
import asyncpg, structlog
from shared import log
from shared.settings import Settings, read
from tests.flow.world import configuration
from pathlib import Path

told = configuration(database_url=sys.argv[1], redis_url="redis://nowhere", storage=Path("unused"))
log.configure(read(Settings, **told, log_format=sys.argv[2]), process="test")

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    await connection.execute("CREATE TEMPORARY TABLE letters (words text CONSTRAINT no_words CHECK (words = ''))")
    try:
        try:
            await connection.execute("INSERT INTO letters VALUES ($1)", "my daughter" + chr(10) + "Anna")
        except asyncpg.CheckViolationError as error:
            raise RuntimeError("on the way up") from error
    except RuntimeError as error:
        structlog.get_logger().exception("letter.refused")
        structlog.get_logger().error("letter.item", exc_info=error)
        logging.getLogger("uvicorn.error").exception("letter.foreign")

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_row_that_postgres_refuses_is_not_logged(empty_database_url: str, form: str) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM, empty_database_url, form],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    for event in ("letter.refused", "letter.item", "letter.foreign"):
        assert event in ended.stdout
    assert ended.stdout.count("no_words") == ended.stdout.count("CheckViolationError: ") == 3
    assert "Anna" not in ended.stdout + ended.stderr
    assert "daughter" not in ended.stdout
