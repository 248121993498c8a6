"""The bare script's steps: our statements, read from our own files, in our order, sent by plain asyncpg."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import orjson
import uuid_utils.compat

from shared import sql
from shared.database import Connection, prepare_connection
from shared.generations import CREDIT_IN_LINE, HELD_BACK_DEADLINE, LONGEST_IN_LINE_CREDITS, RESERVED_DEADLINE
from worker.transitions import LET_IN_LIMIT

_ROOT = Path(__file__).resolve().parents[2]


def _statements(path: str) -> dict[str, str]:
    return sql.load(str(_ROOT / path))


_GENERATIONS = _statements("shared/generations.sql")
_LEDGER = _statements("shared/ledger.sql")
_PRICING = _statements("shared/pricing.sql")
_IDEMPOTENCY = _statements("api/idempotency.sql")
_WEBHOOKS = _statements("api/webhooks.sql")
_LEASES = _statements("worker/lease.sql")
_TRANSITIONS = _statements("worker/transitions.sql")
_LINE = _statements("worker/line.sql")
_LINE_TIME = _statements("worker/line_time.sql")
_FINISH = _statements("worker/finish.sql")

Row: TypeAlias = asyncpg.Record

OPERATION = "POST /v1/generations"
LEASE = timedelta(seconds=30)
MINUTES = timedelta(minutes=15)
FIRST_POLL = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Connections:
    """Some connections that are handed out as they are; nothing is checked or reset in between."""

    free: "asyncio.LifoQueue[Connection]"

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """Borrow one."""
        connection = await self.free.get()
        try:
            yield connection
        finally:
            self.free.put_nowait(connection)


@asynccontextmanager
async def connect(database_url: str, *, size: int) -> AsyncIterator[Connections]:
    """Open `size` connections."""
    opened = [await asyncpg.connect(database_url) for _ in range(size)]
    connections = Connections(asyncio.LifoQueue())
    for connection in opened:
        await prepare_connection(connection)
        connections.free.put_nowait(connection)
    try:
        yield connections
    finally:
        await asyncio.gather(*(connection.close() for connection in opened))


async def _row(connection: Connection, statement: str, *arguments: Any) -> Row:
    row = await connection.fetchrow(statement, *arguments)
    if row is None:
        msg = f"no row from: {statement[:60]}"
        raise RuntimeError(msg)
    return row


async def submit(connection: Connection, user_id: str, key: str, body: bytes) -> tuple[Row, bytes]:
    """As `api/submit.py`: claim the key, price, reserve, insert, keep the reply."""
    order = orjson.loads(body)
    fingerprint = hashlib.sha256(orjson.dumps(order, option=orjson.OPT_SORT_KEYS)).digest()
    generation_id = uuid_utils.compat.uuid7()
    async with connection.transaction():
        name = (user_id, OPERATION, key)
        await connection.fetchval(_IDEMPOTENCY["claim"], *name, fingerprint, "2000", timedelta(days=30))
        prices = {row["type"]: row for row in await connection.fetch(_PRICING["current"], None)}
        price = prices[order["type"]]
        cost = price["unit_credits"] * order["batch_size"]
        snapshot = {
            "price_version": price["version"],
            "type": order["type"],
            "unit_credits": price["unit_credits"],
            "batch_size": order["batch_size"],
            "multiplier_permille": 1000,
            "total": cost,
        }
        answer = orjson.loads(
            await connection.fetchval(
                _LEDGER["reserve"],
                user_id,
                f"reserve:{generation_id}",
                generation_id,
                cost,
                datetime.now(UTC) + timedelta(days=2),
                orjson.dumps(snapshot).decode(),
                uuid_utils.compat.uuid7(),
                None,
            )
        )
        generation = await _row(
            connection,
            _GENERATIONS["insert"],
            generation_id,
            user_id,
            order["type"],
            order["prompt"],
            order["batch_size"],
            order["parameters"],
            None,
            None,
            None,
            UUID(answer["hold_id"]),
            price["version"],
            cost,
            RESERVED_DEADLINE,
            None,
            None,
            CREDIT_IN_LINE,
            LONGEST_IN_LINE_CREDITS,
            HELD_BACK_DEADLINE,
        )
        reply = orjson.dumps(
            {
                "id": str(generation_id),
                "type": order["type"],
                "status": "reserved",
                "prompt": order["prompt"],
                "batch_size": order["batch_size"],
                "parameters": order["parameters"],
                "created_at": generation["created_at"],
                "cost": {"quoted": cost, "held": cost, "charged": 0, "refunded": 0, "currency": "credits"},
                "balance": answer["balance"],
                "queue": {"position": None, "held_back": False, "eta_seconds": None},
                "urls": {"self": f"/v1/generations/{generation_id}"},
            }
        )
        await connection.execute(_IDEMPOTENCY["keep"], *name, generation_id, 202, reply.decode())
    return generation, reply


async def take_note(connection: Connection, generation_id: UUID, attempt: int, body: bytes) -> Row | None:
    """As `api/webhooks.py`: make the row due, note the word on the attempt, keep the receipt."""
    said = orjson.loads(body)
    digest = hashlib.sha256(body).digest()
    async with connection.transaction():
        hurried = await connection.fetchrow(_GENERATIONS["hurry"], generation_id, attempt, None, True)
        await connection.fetchval(_WEBHOOKS["record_word"], generation_id, attempt, said["id"], said["status"])
        receipt = (generation_id, attempt, digest, said["id"], said["status"], 20)
        await connection.fetchval(_WEBHOOKS["keep_receipt"], *receipt)
    return hurried


async def claim_reserved(connection: Connection, limit: int, endpoint_id: str) -> Sequence[Row]:
    """As `worker/line.py` claims."""
    kinds = ("text", "image", "modify", "video")
    here = [{"type": kind, "name": kind, "endpoint_id": kind} for kind in kinds]
    lanes = [{"type": kind, "name": "", "endpoint_id": "", "most": limit} for kind in kinds]
    async with connection.transaction():
        price = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS)
        heads = await connection.fetch(_LINE["heads"], lanes, here, None, [], False, *price)
        seats = [{"id": str(head["id"]), "name": head["type"], "endpoint_id": endpoint_id} for head in heads[:limit]]
        if not seats:
            return []
        claimed = await connection.fetch(_TRANSITIONS["claim_reserved"], uuid4(), LEASE, seats, None, *price)
        told = [{"id": seat["id"], "ahead": False} for seat in seats]
        await connection.execute(_LINE_TIME["pass_time"], told, [], [], *price, None)
        return claimed


async def claim_due(connection: Connection, owner: str, limit: int) -> Sequence[Row]:
    """As `worker/finish.py` claims."""
    return await connection.fetch(_LEASES[f"claim_due_{owner}"], uuid4(), LEASE, limit, None)


async def claim_polls(connection: Connection, limit: int, endpoint_id: str) -> Sequence[Row]:
    """As `worker/poll.py` claims, at one endpoint that may be asked as much as we like."""
    return await connection.fetch(_LEASES["claim_polls"], uuid4(), LEASE, [endpoint_id], [limit], None)


def _fence(generation: Row) -> tuple[UUID, int, UUID]:
    return generation["id"], generation["version"], generation["lease_token"]


async def record_submitted(connection: Connection, generation: Row, remote_id: str) -> Row | None:
    """submitting → submitted."""
    arguments = (*_fence(generation), remote_id, FIRST_POLL, MINUTES, None)
    return await connection.fetchrow(_TRANSITIONS["record_submitted"], *arguments)


async def record_finishing(connection: Connection, generation: Row, body: bytes) -> Row | None:
    """submitted → finishing, with the answer as it came."""
    job = orjson.loads(body)
    if job["status"] != "COMPLETED":
        msg = f"an instant endpoint said {job['status']}"
        raise RuntimeError(msg)
    arguments = (*_fence(generation), "COMPLETED", body, job["delayTime"], job["executionTime"], MINUTES, None)
    return await connection.fetchrow(_TRANSITIONS["record_finishing"], *arguments)


async def settle(connection: Connection, generation: Row) -> Row | None:
    """As `worker/finish.py` and `worker/settle.py`: read the answer, then state and money in one transaction."""
    kept = await connection.fetchrow(_FINISH["result"], generation["id"], generation["hold_id"])
    if kept is None:
        return None
    text = orjson.loads(kept["body"])["output"]["text"]
    outputs = [{"index": 0, "kind": "text", "media_type": "text/plain", "text": text}]
    cost = kept["price"]["total"]
    async with connection.transaction():
        settled = await connection.fetchrow(
            _TRANSITIONS["record_settled"],
            *_fence(generation),
            "completed",
            cost,
            outputs,
            None,
            None,
            "delivered",
            "worker/finish",
            {"delivered": 1, "ordered": 1, "charged": cost},
            None,
        )
        if settled is not None:
            key = f"settle:{generation['id']}"
            await connection.fetchval(_LEDGER["capture"], generation["hold_id"], key, cost, None)
            places = (CREDIT_IN_LINE, LONGEST_IN_LINE_CREDITS, RESERVED_DEADLINE)
            await connection.fetch(_TRANSITIONS["let_in"], generation["user_id"], LET_IN_LIMIT, None, *places)
    return settled
