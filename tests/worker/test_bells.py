"""Whoever answers bells leaves nothing behind, whenever they are told to stop."""

import asyncio
import signal
from pathlib import Path
from uuid import uuid4

from shared import queue
from tests.flow.world import configuration, worker_settings
from tests.local import valkey
from tests.turns import at_every_turn, cut_before
from worker import bells

RUNG = 3


async def test_told_to_stop_in_any_turn_no_bell_is_left_in_the_middle(redis_url: str) -> None:
    """arq takes a bell off its queue in a task that nobody waits for, and that lost its connection under it."""
    settings = worker_settings(configuration(database_url="x://", redis_url=redis_url, storage=Path("unused")))
    ours = queue.open_queue(settings)
    left: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context["message"]))

    async def answered() -> None:
        while await queue.depth(ours):
            await asyncio.sleep(0)

    async def cut(turn: int) -> bool:
        for _ in range(RUNG):
            assert await queue.ring(ours, uuid4(), version=1)
        stopping = asyncio.Event()
        answering = asyncio.create_task(bells.answer(settings, lambda: None, stopping))
        cut_off = await cut_before(turn, answered())
        stopping.set()
        await answering
        left.extend(task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()})
        await ours.flushdb()
        return cut_off

    assert await at_every_turn(cut)
    await ours.aclose()
    assert left == []


async def test_redis_that_hangs_keeps_nobody_from_stopping() -> None:
    """It hears of a bell, and stands still before that is taken off its queue."""
    server = valkey.run()
    settings = worker_settings(configuration(database_url="x://", redis_url=server.url, storage=Path("unused")))
    ours, stopping = queue.open_queue(settings), asyncio.Event()
    assert await queue.ring(ours, uuid4(), version=1)

    def hang() -> None:
        server.process.send_signal(signal.SIGSTOP)
        stopping.set()

    try:
        async with asyncio.timeout(queue.COMMAND_TIMEOUT_SECONDS):
            await bells.answer(settings, hang, stopping)
    finally:
        server.process.send_signal(signal.SIGCONT)
        await ours.aclose()
        server.stop()
