"""Everything an account is and did, without what differs between two equal lives: ids, hashes, when it was opened."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import orjson

from shared import sql
from shared.database import Connection
from shared.errors import TwinError

QUERIES = sql.load(__file__)

Footprint = dict[str, Any]


# Of a plan its name: what it says is told beside it. Of a price its number and its link in everybody's list.
_IDS = {"hold_id", "bucket_id", "txn_id", "warning_id", "plan", "version", "hash"}


async def footprints(connection: Connection, user_ids: Sequence[str]) -> dict[str, Footprint]:
    """The footprint of each account that exists. Lives must run at given times for theirs to be comparable."""
    rows = await connection.fetch(QUERIES["footprints"], user_ids)
    return {user_id: _without_ids(orjson.loads(told) if isinstance(told, str) else told) for user_id, told in rows}


def answer(result: Any) -> Any:
    """What a call said, in the same sense."""
    if isinstance(result, TwinError):
        return result.code
    return _without_ids(asdict(result)) if is_dataclass(result) and not isinstance(result, type) else result


def _without_ids(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {name: _without_ids(value) for name, value in told.items() if name not in _IDS}
    if isinstance(told, list):
        return [_without_ids(value) for value in told]
    return told
