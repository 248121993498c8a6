"""Cut a step off in every turn of the event loop.

A turn ends where the loop asks which sockets are ready, or waits until one is. Between two turns every task stands at
an `await`: what it waits for has not come, or has come and was not told to it yet. So whoever cuts a step off before
its first turn, before its second, and so on until it ends by itself, has cut it off at every await, before the answer
and after it.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MOST_TURNS = 1000
"""None of the steps has a tenth of them."""


async def cut_before(turn: int, step: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """Run a step, and cancel it before the turn of this number (0: before it begins) if it has not ended by then.

    The task that comes back is done, its clean-up included; `cancelled()` says whether it was cut off.
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
    return task


async def at_every_turn(cut: Callable[[int], Awaitable[bool]]) -> int:
    """Have a step cut off before turn 0, 1, 2 and so on, until `cut` says that it ended by itself; in which turn.

    Raises:
        AssertionError: it never did.
    """
    for turn in range(MOST_TURNS):
        if await cut(turn):
            return turn
    msg = f"the step did not end within {MOST_TURNS} turns"
    raise AssertionError(msg)
