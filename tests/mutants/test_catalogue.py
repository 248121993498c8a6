"""The list of mutants cannot rot: each still says something about the database as it is."""

from collections import Counter

from shared.database import Pool
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


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(mutant.name for mutant in EDITED).items() if times > 1] == []
