"""A bell that is cut off, in any turn of the loop and twice, keeps no connection from the next one."""

from pathlib import Path
from uuid import uuid4

import pytest

from shared import queue
from tests.flow.world import configuration, worker_settings
from tests.turns import at_every_turn, cut_before

CLEAN_UP_TURNS = 12
"""More than any cut-off bell takes to end."""


@pytest.mark.parametrize("rung_before", [False, True])
async def test_a_bell_that_is_cut_off_twice_gives_its_connection_back(redis_url: str, *, rung_before: bool) -> None:
    """Whoever submitted vanishes, and the bell's own time is up while it takes back its WATCH."""
    told = configuration(database_url="x://", redis_url=redis_url, storage=Path("unused"))
    bells = queue.open_queue(worker_settings(told))
    bells.connection_pool.max_connections = 1

    async def cut(turn: int) -> bool:
        for again in range(turn + 1, turn + CLEAN_UP_TURNS):
            generation_id = uuid4()
            if rung_before:
                assert await queue.ring(bells, generation_id, version=1)
            cut_off = await cut_before(turn, queue.ring(bells, generation_id, version=1), again=again)
            assert await bells.ping()
        return cut_off

    assert await at_every_turn(cut)
    await bells.aclose()
