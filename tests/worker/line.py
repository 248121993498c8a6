"""The lines moved by hand: the product's own statements, without HTTP and RunPod."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any
from uuid import UUID, uuid4

from uuid_utils.compat import uuid7

from shared import generations, ledger, plans
from shared.database import Connection
from shared.generations import Generation, Type
from worker import transitions
from worker.line import claim
from worker.places import Deal
from worker.settings import MOST_JOBS
from worker.transitions import Endpoint

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
PRICE: dict[str, Any] = {"test": True}
FILL = """
INSERT INTO generations (
    id, user_id, type, prompt, batch_size, due_at, deadline_at, hold_id, price_version, quoted, vstart, held_back,
    transition_actor, transition_reason
)
SELECT
    gen_random_uuid(), ($1::text[])[1 + number % cardinality($1)], 'text', 'a lighthouse', 1, now(),
    now() + interval '20 minutes', gen_random_uuid(), (SELECT min(version) FROM price_versions), 1, number, $3,
    'test', 'test'
FROM generate_series(1, $2::integer) AS number
"""
"""So many that wait, all at once; without money and history, so it runs where triggers do not."""


@dataclass(frozen=True)
class Line:
    """What submits and workers do to the lines, over one connection."""

    connection: Connection

    async def person(self, *, weight: int = 1, max_in_flight: int | None = None) -> str:
        """Somebody new, on a plan of their own; they pay whatever it costs."""
        name = token_hex(6)
        terms = {"weight": weight, "max_in_flight": max_in_flight, "policy": "off"}
        await plans.set_plan(self.connection, plan=name, key=name, terms=terms, reason=None, actor="test")
        await ledger.open_account(self.connection, user_id=f"user_{name}", plan=name)
        return f"user_{name}"

    async def submit(
        self,
        user_id: str,
        *,
        cost: int = 1,
        kind: Type = Type.TEXT,
        wanted: str | None = None,
        price: dict[str, Any] = PRICE,
    ) -> Generation:
        """Hold the credits and join the line, as the API does."""
        generation_id = uuid7()
        async with self.connection.transaction():
            held = await ledger.reserve(
                self.connection,
                user_id=user_id,
                key=f"reserve:{generation_id}",
                generation_id=generation_id,
                amount=cost,
                expires_at=datetime.now(UTC) + DAY,
                price=price,
            )
            assert held.hold_id is not None
            return await generations.insert(
                self.connection,
                generation_id=generation_id,
                user_id=user_id,
                generation_type=kind,
                prompt="a lighthouse",
                batch_size=1,
                parameters={},
                source={} if kind is Type.MODIFY else None,
                client_reference=None,
                request_id=None,
                hold_id=held.hold_id,
                price_version=await self.connection.fetchval("SELECT min(version) FROM price_versions"),
                quoted=cost,
                wanted_endpoint=wanted,
            )

    async def claim(self, limit: int = 1, *, kinds: Sequence[Type] = tuple(Type)) -> list[Generation]:
        """Take the next ones, as a worker with so many places at one endpoint for each type; in the order of a line."""
        claimed: list[Generation] = []
        for kind in kinds:
            claimed += await self.claim_at({kind.value: limit - len(claimed)}, anywhere={kind.value}, kind=kind)
        return sorted(claimed, key=lambda generation: (generation.vstart, generation.id))

    async def claim_at(
        self,
        room: Mapping[str, int],
        *,
        anywhere: Collection[str] = (),
        kind: Type = Type.TEXT,
        most: int | None = None,
    ) -> list[Generation]:
        """Take those of a type for so many places at each endpoint; who goes anywhere may go to those of `anywhere`."""
        here = [Endpoint(type=kind, name=name, endpoint_id=name) for name in room]
        deal = Deal(
            token=uuid4(),
            slots=sum(room.values()) if most is None else most,
            limits=dict.fromkeys(room, MOST_JOBS),
            waiting=Counter(dict.fromkeys(room, MOST_JOBS)),
            most=Counter({kind: sum(room.values()) if most is None else most}),
            draws=[place for place in here if place.name in anywhere for _ in range(room[place.name])],
            room=Counter(room),
        )
        return await claim(self.connection, deal, endpoints=here, lease=MINUTE)

    async def give_back(self, generation: Generation) -> Generation:
        """It could not be sent: it may be claimed again at once."""
        moved = await transitions.return_to_reserved(
            self.connection,
            generation,
            outcome="not_sent",
            reason="test",
            wait=timedelta(0),
            actor="test",
        )
        assert moved is not None
        return moved

    async def finish(self, generation: Generation) -> list[Generation]:
        """It ended, as `worker/settle.py` ends it; returns whom that let in."""
        async with self.connection.transaction():
            settled = await transitions.record_settled(
                self.connection,
                generation,
                state=generations.State.FAILED,
                charged=0,
                outputs=[],
                error_code="test",
                error_detail=None,
                reason="test",
                actor="test",
                detail={},
            )
            assert settled is not None
            key = f"settle:{generation.id}"
            await ledger.release(self.connection, hold_id=generation.hold_id, key=key, reason="test")
            return await transitions.let_in(self.connection, user_id=generation.user_id)

    async def clock(self, kind: Type = Type.TEXT) -> int:
        """Where a line is."""
        return int(await self.connection.fetchval("SELECT vtime FROM queue_clock WHERE type = $1", kind))

    async def empty(self) -> None:
        """Claim whatever is left, so that the next story starts with idle lines."""
        while await self.claim(50):
            pass


def ids(generations_: Sequence[Generation]) -> list[UUID]:
    """Which they are."""
    return [generation.id for generation in generations_]
