"""Cut a step off in every turn of the event loop.

A turn ends where the loop asks which sockets are ready, or waits until one is. Between two turns every task stands at
an `await`: what it waits for has not come, or has come and was not told to it yet. So whoever cuts a step off before
its first turn, before its second, and so on until it ends by itself, has cut it off at every await, before the answer
and after it.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

MOST_TURNS = 1000
"""None of the steps has a tenth of them."""


async def cut_before(turn: int, step: Coroutine[Any, Any, object]) -> bool:
    """Run a step, and cancel it before the turn of this number, 0 being before it begins, if it has not ended by then.

    Returns, when its clean-up is over too, whether it was cut off. It may have gone on all the same: before Python 3.12
    `asyncio.wait_for` loses a cancellation that comes together with its answer, and redis-py sends through it.
    """
    selector: selectors.BaseSelector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    ask, task, turns = selector.select, asyncio.create_task(step), 0

    def select(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        nonlocal turns
        if turns == turn and task.cancel():
            timeout = 0
        turns += 1
        return ask(timeout)

    selector.select = select  # type: ignore[method-assign]
    try:
        await asyncio.wait([task])
    finally:
        del selector.select
    if not task.cancelled():
        task.result()
    return task.cancelling() > 0


async def at_every_turn(cut: Callable[[int], Awaitable[bool]]) -> int:
    """Have a step cut off before turn 0, 1, 2 and so on, for as long as `cut` says that it was; how often that was.

    Raises:
        AssertionError: the step never ended by itself.
    """
    for turn in range(MOST_TURNS):
        if not await cut(turn):
            return turn
    msg = f"the step did not end within {MOST_TURNS} turns"
    raise AssertionError(msg)
