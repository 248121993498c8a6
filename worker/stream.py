"""submitted and running texts: drain what RunPod's /stream gives while it is made, and write it before reading on.

The loop moves no generation: polls, deadlines, cancels and settling are their owners'. It writes chunks under the
stream's own lease (worker/streams.py says why), and makes the generation due when it sees more than its owner knows:
that it runs, or that it has ended. A slot is held for a turn and given back, so that many texts share few slots; one
that is still queued holds none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import uuid4

import stamina
import structlog

from shared import events
from shared.database import UNREACHABLE, Connection
from shared.generations import Generation, State, Type
from worker import streams
from worker.allowances import REFILL
from worker.chunks import Drained
from worker.context import Context
from worker.endpoints import Profile
from worker.memory import Room
from worker.outcomes import Drain, Gone, NotSent, Sign, Unknown
from worker.remote import RemoteState
from worker.streams import Stream

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

T = TypeVar("T")

TURN = timedelta(seconds=20)
"""How long one text is followed before its slot goes to another."""
SHORT_TURN = timedelta(seconds=2)
"""The same while another waits for a slot."""
FOUND_NO_SLOT = timedelta(seconds=1)
"""Workers look for streams twice a second: one that has been due for longer waits for a slot."""
PAUSE = timedelta(milliseconds=200)
"""Between two drains: a chunk is a row, a word to the pages and a look of theirs; and RunPod may not hold what it has
nothing for."""
LONGEST_HOLD = timedelta(seconds=8)
"""How long RunPod may wait for something to give; less than its own ten seconds, and than our read timeout."""
_HOLD_SHARE = 3  # of the lease: an exchange and the writing after it fit in
_DRAIN_SHARE = 2  # of what SIGTERM waits: a look that is cut off counts as chunks that were lost
# Together well inside the lease of 30 s, after an exchange of LONGEST_HOLD.
WRITE_ATTEMPTS = 6
WRITE_WAIT_SECONDS = 2
_QUEUED_SHORTEST = timedelta(milliseconds=500)
_QUEUED_LONGEST = timedelta(seconds=5)
_QUEUED_SHARE = 0.1  # of the age
_RETRY = timedelta(seconds=2)
_READ_ON = timedelta(0)


def is_streamed(generation: Generation, profile: Profile) -> bool:
    """Whether a generation's text is drained while it is made. The chunks of a batch cannot be told apart."""
    return profile.streams and generation.type is Type.TEXT and generation.batch_size == 1


async def claim(context: Context, limit: int) -> Sequence[Stream]:
    """Lease up to `limit` streams that are due."""
    async with context.pool.acquire() as connection:
        return await streams.claim(connection, lease_token=uuid4(), lease=context.settings.lease, limit=limit)


async def stream_once(context: Context, *, limit: int = 50) -> int:
    """One round of one drain each; returns how many were claimed."""
    claimed = await claim(context, limit)
    ending = asyncio.Event()
    ending.set()
    for each in claimed:
        await follow(context, each, ending=ending)
    return len(claimed)


async def follow(context: Context, stream: Stream, *, ending: asyncio.Event) -> None:
    """Drain one claimed stream for a turn, or until `ending` is set: then what is under way is still written."""
    if not stream.pursued:
        await _end(context, stream, None if stream.generation.state.terminal else "superseded")
        return
    generation = stream.generation
    clock = asyncio.get_running_loop().time
    began = clock()
    hold = _READ_ON  # while it is queued nothing will come: the first look does not wait
    while True:
        async with context.memory.room() as room:  # until it is written
            drain = await _drain(context, generation, hold=hold, room=room)
            wait = await heed(context, stream, drain)
        if wait is None:
            return
        crowded = await _surely(context, partial(streams.others_wait, since=FOUND_NO_SLOT))
        turn = SHORT_TURN if crowded else TURN
        if wait or ending.is_set() or clock() - began >= turn.total_seconds():
            await _surely(context, partial(streams.give_back, stream=stream, wait=wait))
            return
        if isinstance(drain, Drained) and drain.count:
            stream = stream.after(drain)
        await asyncio.sleep(PAUSE.total_seconds())
        settings = context.settings
        hold = min(LONGEST_HOLD, settings.lease / _HOLD_SHARE, settings.drain / _DRAIN_SHARE, turn)


async def _drain(context: Context, generation: Generation, *, hold: timedelta, room: Room) -> Drain:
    """Ask once, with a token of the endpoint's allowance for it."""
    endpoint_id = generation.endpoint_id or ""
    granted = await _surely(context, partial(context.allowances.take, operation="stream", wanted={endpoint_id: 1}))
    if not granted.get(endpoint_id):
        return NotSent("own-rate-limit", REFILL)
    drain = await context.runpod.stream(endpoint_id, generation.remote_id or "", hold=hold, make_room=room.widen)
    if isinstance(drain, NotSent) and drain.sign is Sign.LIMITED:
        waits = {endpoint_id: drain.wait}
        await _surely(context, partial(context.allowances.slow_down, operation="stream", waits=waits))
    return drain


async def heed(context: Context, stream: Stream, drain: Drain) -> timedelta | None:
    """Write down what a look at /stream brought. How long to wait before the next; None when there is none for us."""
    if not isinstance(drain, Drained):
        return await _heed_nothing(context, stream, drain)
    fits = not drain.count or stream.takes(drain)
    if fits and drain.count and not await _write(context, stream, drain):
        return None
    dumb = drain.state is None and not drain.count  # it does not say whether more will come
    over = drain.ended or (dumb and stream.generation.state is State.FINISHING)
    if over or not fits:
        await _end(context, stream, None if fits else "oversized")
        return None
    if dumb or (drain.state is RemoteState.IN_QUEUE and not drain.count):
        return _patience(stream)
    if not drain.count and not await _write(context, stream, drain):
        return None
    return _READ_ON


async def _heed_nothing(context: Context, stream: Stream, drain: Gone | NotSent | Unknown) -> timedelta | None:
    if isinstance(drain, NotSent):
        return drain.wait
    if isinstance(drain, Unknown):
        log.warning("stream.unknown", generation_id=str(stream.generation.id), reason=drain.reason)
        await _surely(context, partial(streams.give_back, stream=stream, wait=_RETRY, trouble="interrupted"))
        return None
    # A 404: not visible yet, after the submit or while machines only start, or dropped. The generation's owner decides
    # which; an end of the stream before its own would lose what a job that shows up after all has to say.
    if stream.generation.state is not State.FINISHING:
        return _patience(stream)
    await _end(context, stream, "gone")
    return None


def _patience(stream: Stream) -> timedelta:
    return max(_QUEUED_SHORTEST, min(stream.age * _QUEUED_SHARE, _QUEUED_LONGEST))


async def _write(context: Context, stream: Stream, drained: Drained) -> bool:
    """Write what was read: it cannot be read again. False when it is not ours to write any more."""
    lease = context.settings.lease
    if not drained.count:
        return await _surely(context, partial(streams.renew, stream=stream, lease=lease))

    async def append(connection: Connection) -> bool:
        async with connection.transaction():
            written = await streams.append(connection, stream, drained, lease=lease)
            if written and stream.generation.state is State.SUBMITTED and not stream.chunks:
                await streams.hurry_owner(connection, stream.generation)  # it runs, and nobody knows
        return written

    written = await _surely(context, append)
    if written and drained.text:
        await events.announce(context.queue, [stream.generation])
    return written


async def _end(context: Context, stream: Stream, trouble: streams.Trouble | None) -> None:
    async def end(connection: Connection) -> bool:
        async with connection.transaction():
            return await streams.end(connection, stream, trouble=trouble)

    if await _surely(context, end):
        log.info("stream.ended", generation_id=str(stream.generation.id), attempt=stream.attempt, trouble=trouble)


async def _surely(context: Context, do: Callable[[Connection], Awaitable[T]]) -> T:
    """Do it, and again while Postgres is away for a moment. What is done twice changes nothing more.

    A lease that is not given back counts as a drain that may have been lost: not because of such a moment.

    Raises:
        one of UNREACHABLE: it is away for longer.
    """
    async for attempt in stamina.retry_context(on=UNREACHABLE, attempts=WRITE_ATTEMPTS, wait_max=WRITE_WAIT_SECONDS):
        with attempt:
            async with context.pool.acquire() as connection:
                done = await do(connection)
    return done
