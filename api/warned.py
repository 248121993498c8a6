"""What people were told about their credits: a warning for each threshold that was crossed, not for each order."""

from datetime import datetime
from typing import Literal, cast

from typing_extensions import TypedDict

from api import replies
from shared import sql
from shared.credits import Crossing
from shared.database import Connection

_SQL = sql.load(__file__)

_WORDS = {
    "low-balance": "Your credits are running low: {left} left.",
    "overdraft": "Your credits are used up; what you make now is lent to you and paid back from your next credits.",
}


class WarningReply(TypedDict):
    """A threshold that was crossed on the way down; said once, until credits come in. `available`: what was left."""

    id: int
    code: Literal["low-balance", "overdraft"]
    detail: str
    available: int
    at: datetime


def warning_reply(crossing: Crossing) -> WarningReply:
    """A crossing in words."""
    return {
        "id": crossing.warning_id,
        "code": cast("Literal['low-balance', 'overdraft']", crossing.code),
        "detail": _WORDS[crossing.code].format(left=replies.in_words(crossing.available)),
        "available": crossing.available,
        "at": crossing.at,
    }


async def latest(connection: Connection, *, user_id: str, limit: int) -> list[Crossing]:
    """The last warnings of a person, newest first."""
    return [Crossing(**row) for row in await connection.fetch(_SQL["latest"], user_id, limit)]


async def latest_id(connection: Connection, *, user_id: str) -> int:
    """The id of the last one; 0 before the first."""
    found = await latest(connection, user_id=user_id, limit=1)
    return found[0].warning_id if found else 0
