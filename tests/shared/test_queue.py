"""A bell that is cut off in any turn of the loop keeps no connection from the next one."""

from pathlib import Path
from uuid import uuid4

from arq.connections import ArqRedis
from redis.asyncio.client import Pipeline

from shared import queue
from tests.flow.world import configuration, worker_settings
from tests.turns import at_every_turn, cut_before


def open_bells(redis_url: str) -> ArqRedis:
    """With a single connection: one that is not given back is missed at once."""
    bells = queue.open_queue(
        worker_settings(configuration(database_url="x://", redis_url=redis_url, storage=Path("x")))
    )
    bells.connection_pool.max_connections = 1
    return bells


async def test_a_bell_that_is_cut_off_gives_its_connection_back(redis_url: str) -> None:
    bells = open_bells(redis_url)

    async def cut(turn: int) -> bool:
        cut_off = await cut_before(turn, queue.ring(bells, uuid4(), version=1))
        assert await bells.ping()
        return cut_off

    assert await at_every_turn(cut)
    await bells.aclose()


async def test_a_bell_that_is_cut_off_while_it_cleans_up_gives_its_connection_back(redis_url: str) -> None:
    """Whoever submitted vanished, and then the bell's own time is up."""
    bells = open_bells(redis_url)

    async def cut(turn: int) -> bool:
        pipeline: Pipeline = bells.pipeline()
        await pipeline.watch("bell")
        cut_off = await cut_before(turn, pipeline.aclose())
        if turn == 0:  # it had not begun
            await pipeline.aclose()
        assert await bells.ping()
        return cut_off

    assert await at_every_turn(cut)
    await bells.aclose()
