"""The triggers of `invariants.sql`: each refuses the commit of what only it can see, and lets the honest one pass."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from shared import generations
from shared.database import Connection
from tests.ledger.invariants import ask_before_commit
from tests.ledger.teller import Teller

Wrong = Callable[["Somebody"], Awaitable[object]]


@dataclass(frozen=True)
class Somebody:
    """15 credits bought, 4 of them charged for one hold, 6 held for a generation that is under way."""

    teller: Teller
    open: UUID
    generation: UUID

    async def execute(self, statement: str) -> None:
        await self.teller.conn.execute(statement, self.teller.user_id)

    async def write_again(self, **changes: str) -> None:
        """Write the last entry once more, with these changes."""
        new = "jsonb_build_object(" + ", ".join(f"'{column}', {value}" for column, value in changes.items()) + ")"
        await self.execute(
            f"INSERT INTO credit_entries SELECT (jsonb_populate_record(e, {new})).* FROM credit_entries e "  # noqa: S608
            "WHERE user_id = $1 ORDER BY seq DESC LIMIT 1"
        )

    async def end(self, state: str, charged: int) -> None:
        """The generation is over, whatever became of its hold."""
        await self.teller.conn.execute(
            """UPDATE generations SET state = $2::text::generation_state, charged = $3, finished_at = now(),
                due_at = NULL, deadline_at = NULL, version = version + 1,
                error_code = CASE $2 WHEN 'failed' THEN 'test' END
               WHERE id = $1""",
            self.generation,
            state,
            charged,
        )


@pytest_asyncio.fixture(loop_scope="module")
async def somebody(conn: Connection) -> Somebody:
    teller = Teller(conn)
    await teller.grant(15, ref="bought")
    await teller.capture(await teller.hold(4), 4)
    generation = uuid4()
    async with teller.conn.transaction():
        reservation = await teller.reserve(6, generation_id=generation)
        assert reservation.hold_id is not None
        await generations.insert(
            teller.conn,
            generation_id=generation,
            user_id=teller.user_id,
            generation_type=generations.Type.IMAGE,
            prompt="a lighthouse",
            batch_size=1,
            parameters={},
            source=None,
            client_reference=None,
            request_id=None,
            hold_id=reservation.hold_id,
            price_version=2,
            quoted=6,
            wanted_endpoint=None,
        )
    return Somebody(teller, reservation.hold_id, generation)


GRANTED = {"seq": "e.seq + 1", "kind": "'grant'", "from_leg": "'issued'", "to_leg": "'available'", "hold_id": "NULL"}


async def _charge_and_end(somebody: Somebody, *, told: int) -> None:
    await somebody.teller.capture(somebody.open, 4)
    await somebody.end("cancelled", told)


WRONGS: dict[str, tuple[str, Wrong]] = {
    "an entry that changed no balance": ("I1: the balances", lambda s: s.write_again(seq="e.seq + 1")),
    "an entry after a gap": ("I3: an entry follows none", lambda s: s.write_again(seq="e.seq + 2")),
    "an entry that the account knows nothing of": (
        "I3: the account",
        lambda s: s.write_again(**GRANTED, posted_after="e.posted_after + e.amount"),
    ),
    "an account that knows of one more": (
        "I3: the account",
        lambda s: s.execute("UPDATE user_billing SET seq = seq + 1 WHERE user_id = $1"),
    ),
    "a credit that no entry brought": (
        "I2: .* the entries",
        lambda s: s.execute("UPDATE user_billing SET posted = posted + 1 WHERE user_id = $1"),
    ),
    "debt that no entry tells of": (
        "I2: .* the entries",
        lambda s: s.execute("UPDATE user_billing SET overdraft_used = 1 WHERE user_id = $1"),
    ),
    "a credit gone from its bucket": (
        "I2: .* the buckets",
        lambda s: s.execute(
            "UPDATE credit_buckets SET remaining = remaining - 1 WHERE user_id = $1 AND source_ref = 'bought'"
        ),
    ),
    "a held credit that is free in its bucket": (
        "I2: .* the buckets",
        lambda s: s.execute("UPDATE credit_buckets SET remaining = remaining + 1, held = held - 1 WHERE user_id = $1"),
    ),
    "a hold that was promised less": (
        "I2: .* the open holds",
        lambda s: s.execute("UPDATE credit_holds SET quoted = quoted - 1 WHERE user_id = $1 AND state = 'open'"),
    ),
    "a hold of nobody": (
        "I2: there is no account",
        lambda s: s.execute(
            "INSERT INTO credit_holds SELECT (jsonb_populate_record(h, jsonb_build_object('user_id', 'nobody', "
            "'hold_id', gen_random_uuid(), 'generation_id', gen_random_uuid()))).* FROM credit_holds h "
            "WHERE user_id = $1 AND state = 'open'"
        ),
    ),
    "a charge that is changed afterwards": (
        "I5: ",
        lambda s: s.execute("UPDATE credit_holds SET captured = 3, released = 1 WHERE user_id = $1 AND final"),
    ),
    "a charge for what goes on": ("I11: ", lambda s: s.teller.capture(s.open, 4)),
    "an end that gives nothing back": ("I11: ", lambda s: s.end("failed", 0)),
    "an end that costs another amount than was charged": ("I11: ", lambda s: _charge_and_end(s, told=3)),
}


@pytest.mark.parametrize("wrong", WRONGS)
async def test_the_commit_is_refused(somebody: Somebody, wrong: str) -> None:
    words, do = WRONGS[wrong]
    with pytest.raises(asyncpg.AssertError, match=words):
        async with somebody.teller.conn.transaction():
            await do(somebody)


async def test_what_is_right_is_committed(somebody: Somebody) -> None:
    await somebody.teller.release(await somebody.teller.hold(1))
    async with somebody.teller.conn.transaction():
        await _charge_and_end(somebody, told=4)


@pytest.mark.parametrize("order", ["wrong honest", "honest wrong", "honest wrong honest", "right asked wrong"])
async def test_one_who_was_looked_at_hides_nobody_and_nothing(somebody: Somebody, order: str) -> None:
    """However many people a transaction is about, and though it was asked once already."""
    conn = somebody.teller.conn
    honest = Teller(conn)
    steps: dict[str, Callable[[], Awaitable[object]]] = {
        "wrong": lambda: WRONGS["a credit gone from its bucket"][1](somebody),
        "right": lambda: somebody.teller.grant(1),
        "honest": lambda: honest.grant(1),
        "asked": lambda: ask_before_commit(conn),
    }

    async def in_a_transaction() -> None:
        async with conn.transaction():
            for step in order.split():
                await steps[step]()

    with pytest.raises(asyncpg.AssertError, match=r"I2: .* the buckets"):
        await in_a_transaction()
