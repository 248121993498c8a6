"""The list of mutants cannot rot: each still says something about the database as it is."""

from collections import Counter
from pathlib import Path

import pytest

from shared.database import Pool
from tests.mutants import killers
from tests.mutants.catalogue import EDITED, every_mutant


async def test_every_mutant_can_be_made(pool: Pool) -> None:
    async with pool.acquire() as connection:
        wrong = []
        for mutant in (await every_mutant(connection)).values():
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(await mutant.statements(connection))
            except Exception as error:
                wrong.append(f"{mutant.name}: {error}")
            await transaction.rollback()
        assert wrong == []


async def test_every_mutant_has_a_killer(pool: Pool) -> None:
    async with pool.acquire() as connection:
        assert list(killers.read()) == sorted(await every_mutant(connection))


@pytest.mark.parametrize("test", sorted({test.partition("[")[0] for test in killers.read().values()}))
def test_the_killer_exists(test: str) -> None:
    module, _, name = test.partition("::")
    assert f"def {name}(" in Path("tests", module).read_text(encoding="utf-8")


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(mutant.name for mutant in EDITED).items() if times > 1] == []
