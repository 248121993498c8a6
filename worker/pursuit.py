"""Which attempt of a generation is pursued: one guarded statement for each way in which that changes, in `pursuit.sql`.

RunPod may have a generation more than once. Whether another attempt is to be turned to is decided in
`worker/attempts.py`, by the sweep and by the poll. None means that somebody else moved the generation: stop quietly.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared import sql
from shared.database import Connection
from shared.generations import Generation, read_all, read_one

_SQL = sql.load(__file__)


async def adopt(
    connection: Connection, generation: Generation, *, queue_deadline: timedelta, now: datetime | None = None
) -> Generation | None:
    """submitting or reserved → submitted, with the id that the attempt's webhook gave."""
    return await read_one(connection, _SQL["adopt"], generation.id, generation.version, queue_deadline, now)


async def heed_earlier_attempt(
    connection: Connection, *, lease_token: UUID, generation_ids: Sequence[UUID]
) -> list[Generation]:
    """Of the leased generations, turn those back to an earlier attempt whose webhook says that it completed."""
    return await read_all(connection, _SQL["heed_earlier_attempt"], lease_token, generation_ids)


async def turn_to_another(
    connection: Connection,
    generation: Generation,
    *,
    given_up: bool,
    still_there: bool,
    wait: timedelta,
    queue_deadlines: Mapping[str, timedelta],
    reason: str,
    actor: str,
    now: datetime | None = None,
) -> Generation | None:
    """submitted, running or finishing → submitted: the pursued attempt is `given_up`, another may have a result.

    `still_there`: what is given up may still end at RunPod; it is cancelled. Not given up, but silent: one that said it
    has a result, without a change of state. `queue_deadlines`: by endpoint, and under '' of one that is not known any
    more. None: there is no other, the person cancelled, or it is not ours any more. In a transaction of the caller's,
    until whose end that remains so: no attempt is heard of meanwhile.
    """
    fence = (generation.id, generation.version, generation.lease_token)
    await connection.execute(_SQL["hold_attempts"], *fence)
    return await read_one(
        connection,
        _SQL["turn_to_another"],
        *fence,
        given_up,
        wait,
        now,
        still_there,
        {name: f"{deadline.total_seconds()} seconds" for name, deadline in queue_deadlines.items()},
        actor,
        reason,
    )


async def hear_late(connection: Connection, generation: Generation, *, remote_id: str) -> None:
    """Keep RunPod's id of an attempt whose lease was over before RunPod answered. In a transaction of the caller's."""
    await connection.execute(_SQL["hear_late"], generation.id, generation.attempt)
    await connection.execute(_SQL["note_remote_id"], generation.id, generation.attempt, remote_id)


async def believe_no_more(connection: Connection, generation: Generation) -> None:
    """Whatever is said of the pursued attempt from now on, if it had been recalled before."""
    await connection.execute(
        _SQL["believe_no_more"], generation.id, generation.attempt, generation.version, generation.lease_token
    )
