"""Every named statement of the product PREPAREs against the migrated schema, so a typo never waits for its caller."""

import re
from pathlib import Path

import asyncpg
import pytest

from shared import sql

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("shared", "api", "worker") for path in (ROOT / folder).rglob("*.sql"))
STATEMENTS = [(path, name, text) for path in FILES for name, text in sql.load(str(path)).items()]


def test_every_module_has_its_statements_beside_it() -> None:
    assert {path.parent.name for path in FILES} >= {"shared", "api", "worker"}
    for path in FILES:
        assert path.with_suffix(".py").exists(), f"{path.name} belongs to no module"


@pytest.mark.parametrize(
    ("path", "name", "text"),
    STATEMENTS,
    ids=[f"{path.parent.name}/{path.stem}.{name}" for path, name, _ in STATEMENTS],
)
async def test_the_statement_prepares(database_url: str, path: Path, name: str, text: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.prepare(text)
    except asyncpg.PostgresError as error:
        pytest.fail(f"{path.relative_to(ROOT)}, {name}: {error}")
    finally:
        await connection.close()


def test_every_statement_is_used() -> None:
    for path, name, _ in STATEMENTS:
        module = path.with_suffix(".py").read_text(encoding="utf-8")
        family, _, _ = name.rpartition("_")
        all_of_them = re.search(r"in (_SQL|AUDITS)\b|_SQL\.items\(\)|= sorted\(_SQL", module)
        assert all_of_them or f'"{name}"' in module or f'f"{family}_{{' in module, f"{path.name}: nothing uses {name}"
