"""Two sessions on one account, moved step by step. Who waits for whom is asked of the database, never of a clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.database import Connection, Pool
from shared.errors import TwinError
from tests.ledger.acts import Act, Side
from tests.ledger.footprint import answer
from tests.ledger.lives import NOW
from tests.ledger.teller import Teller

Step = Literal["begin", "call", "commit", "rollback"]

# A trigger that stops a session before its nth write, n in twin.stop_before, until the lock of that observer is free.
STOPS = """
CREATE FUNCTION stop_before_write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_left integer := coalesce(nullif(current_setting('twin.stop_before', true), ''), '0')::integer;
BEGIN
    IF v_left > 0 THEN
        PERFORM set_config('twin.stop_before', (v_left - 1)::text, false);
    END IF;
    IF v_left = 1 THEN
        PERFORM pg_advisory_xact_lock(current_setting('twin.observer')::bigint);
    END IF;
    RETURN NULL;
END
$$;
DO $$
DECLARE
    v_table text;
BEGIN
    FOR v_table IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND (relname LIKE 'credit\\_%' OR relname IN ('user_billing', 'price_versions'))
    LOOP
        EXECUTE format('CREATE TRIGGER stop BEFORE INSERT OR UPDATE OR DELETE ON %I '
            'FOR EACH STATEMENT EXECUTE FUNCTION stop_before_write()', v_table);
    END LOOP;
END
$$;
"""


@dataclass
class Session:
    """One connection doing one act, and what it was told."""

    side: Side
    act: Act
    conn: Connection
    user_id: str
    told: Any = None
    pending: "asyncio.Task[None] | None" = None
    done: list[Step] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.conn.get_server_pid()

    async def call(self) -> None:
        try:
            self.told = answer(await self.act.do(Teller(self.conn, self.user_id, NOW), self.side))
        except TwinError as refusal:
            self.told = answer(refusal)

    def take(self, step: Step) -> "asyncio.Task[None]":
        """Take this step as soon as the one before it is over."""
        before = self.pending

        async def then() -> None:
            if before is not None:
                await before
            if step == "call":
                await self.call()
            else:
                await self.conn.execute(step)
            self.done.append(step)

        self.pending = asyncio.create_task(then())
        return self.pending


@dataclass(frozen=True)
class Bench:
    """Two connections that act, and one that looks on."""

    first: Connection
    second: Connection
    observer: Connection

    async def over_or_waiting(self, task: "asyncio.Task[None]", *, waits: int, owns: int) -> bool:
        """Until the task is over, or the backend `waits` waits for the backend `owns`: True."""
        while not task.done():
            if await self.observer.fetchval("SELECT $1 = ANY (pg_blocking_pids($2))", owns, waits):
                return True
        await task
        return False

    async def take_turns(self, a: Session, b: Session, turns: list[tuple[Session, Step]]) -> None:
        """Take the steps in this order; a step of a session that waits is taken when the waiting is over."""
        for session, step in turns:
            other = b if session is a else a
            late = session.pending is not None and not session.pending.done()
            task = session.take(step)
            # Nothing but a call waits, and what comes after it.
            if late or (step == "call" and other.done[-1:] == ["call"]):
                await self.over_or_waiting(task, waits=session.pid, owns=other.pid)
            else:
                await task
        for session in (a, b):
            if session.pending is not None:
                await session.pending

    async def meet_inside(self, a: Session, b: Session, *, write: int) -> bool | None:
        """Stop a before its nth write, let b call, let a go on. Whether b waited; None when a has no such write."""
        observer = self.observer.get_server_pid()
        await self.observer.execute("SELECT pg_advisory_lock($1)", observer)
        await self._stop(a, before=write)
        waited = None
        if await self.over_or_waiting(a.take("call"), waits=a.pid, owns=observer):
            waited = await self.over_or_waiting(b.take("call"), waits=b.pid, owns=a.pid)
        await self.observer.execute("SELECT pg_advisory_unlock($1)", observer)
        for session in (a, b):
            if session.pending is not None:
                await session.pending
        await self._stop(a, before=0)
        return waited

    async def _stop(self, session: Session, *, before: int) -> None:
        settings = "SELECT set_config('twin.stop_before', $1, false), set_config('twin.observer', $2, false)"
        await session.conn.execute(settings, str(before), str(self.observer.get_server_pid()))


@asynccontextmanager
async def bench(pool: Pool) -> AsyncIterator[Bench]:
    """Three connections of the pool."""
    async with pool.acquire() as first, pool.acquire() as second, pool.acquire() as observer:
        yield Bench(first, second, observer)
