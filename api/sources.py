"""The picture that an order starts from: one of the person's own, and not too large to be sent."""

from api.orders import Source
from shared import sql
from shared.database import Connection
from shared.errors import Invalid

_SQL = sql.load(__file__)


async def check(connection: Connection, source: Source, *, user_id: str) -> None:
    """Refuse now what a worker could only refuse later, with the credits held until then.

    Raises:
        Invalid: there is no such picture, or it is too large.
    """
    size = await connection.fetchval(_SQL["picture"], source.generation_id, user_id, source.index)
    if size is None:
        raise Invalid(
            "source must name a picture of yours: a completed image or modify generation, and the index of an output.",
            errors=[{"pointer": "/source", "code": "no-such-picture", "detail": "There is no such picture of yours."}],
        )
    largest = await connection.fetchval(_SQL["largest"])
    if largest is not None and size > largest:
        detail = f"This picture has {_megabytes(size)}; one to modify may have {_megabytes(largest)} at most."
        raise Invalid(detail, errors=[{"pointer": "/source", "code": "picture-too-large", "detail": detail}])


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.2f} MB"
