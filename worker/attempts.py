"""When the attempt that is pursued gives us nothing: pursue another that may have a result, or fail.

RunPod may have one generation twice: a submit that nobody could tell of is sent once more. What the other one has made
is paid for, too, and is not thrown away because this one failed.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from shared.database import Connection
from shared.generations import Generation
from shared.pricing import Cost
from worker import pursuit, settle, streams
from worker.context import Context, report
from worker.stream import is_streamed

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def fail(
    context: Context, generation: Generation, *, code: str, detail: str, actor: str, still_there: bool = False
) -> Generation | None:
    """The pursued attempt is given up: turn to another, or else fail for that reason.

    In one transaction: no word of another comes between the look for one and the refund. `still_there`: it may still
    end at RunPod; it is cancelled, and a word that it completed counts all the same.
    """
    turn = partial(_turn_at_once, context=context, generation=generation, reason=code, actor=actor)
    ended = await settle.fail(
        context,
        generation,
        code=code,
        detail=detail,
        actor=actor,
        unless=partial(turn, still_there=still_there),
    )
    await _tell_if_turned(context, generation, ended, reason=code)
    return ended


async def sell_part(
    context: Context,
    generation: Generation,
    *,
    outputs: Sequence[Mapping[str, Any]],
    cost: Cost,
    reason: str,
    actor: str,
) -> Generation | None:
    """Turn to another attempt that may have the whole, or else deliver what came of this one. In one transaction."""
    turn = partial(_turn_at_once, context=context, generation=generation, reason=reason, actor=actor)
    ended = await settle.complete(context, generation, outputs=outputs, cost=cost, actor=actor, unless=turn)
    await _tell_if_turned(context, generation, ended, reason=reason)
    return ended


async def give_up(context: Context, generation: Generation, *, reason: str, actor: str) -> Generation | None:
    """Nothing comes of the pursued attempt: pursue another at once. None when none may have a result."""
    return await _turn_only(context, generation, given_up=True, wait=timedelta(0), reason=reason, actor=actor)


async def look_elsewhere(
    context: Context, generation: Generation, *, wait: timedelta, reason: str, actor: str
) -> Generation | None:
    """RunPod does not give what the pursued attempt may have: pursue one that is said to have completed.

    None when there is none. If RunPod does not give that either, they take turns.
    """
    return await _turn_only(context, generation, given_up=False, wait=wait, reason=reason, actor=actor)


async def _turn_only(
    context: Context, generation: Generation, *, given_up: bool, wait: timedelta, reason: str, actor: str
) -> Generation | None:
    async with context.pool.acquire() as connection, connection.transaction():
        turned = await _turn(
            connection,
            context,
            generation,
            given_up=given_up,
            still_there=False,
            wait=wait,
            reason=reason,
            actor=actor,
        )
    if turned is not None:
        said = "attempt.given_up" if given_up else "attempt.silent"
        await _tell(context, generation, turned, said=said, reason=reason)
    return turned


async def _turn_at_once(
    connection: Connection,
    *,
    context: Context,
    generation: Generation,
    reason: str,
    actor: str,
    still_there: bool = False,
) -> Generation | None:
    return await _turn(
        connection,
        context,
        generation,
        given_up=True,
        still_there=still_there,
        wait=timedelta(0),
        reason=reason,
        actor=actor,
    )


async def _turn(
    connection: Connection,
    context: Context,
    generation: Generation,
    *,
    given_up: bool,
    still_there: bool,
    wait: timedelta,
    reason: str,
    actor: str,
) -> Generation | None:
    patience = {profile.endpoint.name: profile.queue_deadline for profile in context.endpoints}
    patience[""] = context.endpoints.pursued(generation).queue_deadline
    turned = await pursuit.turn_to_another(
        connection,
        generation,
        given_up=given_up,
        still_there=still_there,
        wait=wait,
        queue_deadlines=patience,
        reason=reason,
        actor=actor,
    )
    if turned is not None and is_streamed(turned, context.endpoints.pursued(turned)):
        await streams.open_stream(connection, turned)
    return turned


async def _tell_if_turned(context: Context, before: Generation, ended: Generation | None, *, reason: str) -> None:
    if ended is not None and not ended.state.terminal:
        await _tell(context, before, ended, said="attempt.given_up", reason=reason)


async def _tell(context: Context, before: Generation, turned: Generation, *, said: str, reason: str) -> None:
    ids = {"generation_id": str(turned.id), "attempt": before.attempt, "pursued": turned.attempt}
    log.warning(said, **ids, reason=reason)
    await report(context, [turned])
