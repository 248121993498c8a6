"""Somebody whose life Hypothesis leads: an account, its model, time, retries, and what is lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any, ClassVar, TypeVar

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.database import Connection, prepare_connection
from shared.errors import TwinError
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.model import Model
from tests.ledger.teller import Teller, fresh

T = TypeVar("T")

HOURS = st.sampled_from([0.5, 1, 2, 5, 13, 26])


async def connect(url: str) -> Connection:
    """As production's connections are: jsonb is read as Python values."""
    connection: Connection = await asyncpg.connect(url)
    await prepare_connection(connection)
    return connection


class Somebody(RuleBasedStateMachine):
    """One account, its teller on a real connection, and the model beside it."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.teller = Teller(self.runner.run(connect(self.url)))
        self.model = Model(policy="soft", limit=0, threshold=10)
        self.plan = fresh("plan")
        self.repeat: Callable[[], Awaitable[Any]] | None = None

    def do(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call now, and remember it for a retry."""
        self.repeat = call

        async def run() -> T:
            return await call()

        return self.runner.run(run())

    def at(self, now: Any) -> Teller:
        """The same counter at a given time, so that a retry is the same call."""
        return Teller(self.teller.conn, self.teller.user_id, now)

    def refused(self, call: Callable[[], Awaitable[Any]], error: type[TwinError]) -> None:
        try:
            self.do(call)
        except error:
            self.repeat = None
        else:
            raise AssertionError(error)

    def predicted(self, act: Callable[[Model], Any]) -> type[TwinError] | None:
        """What the model refuses it with; only when it does not, the act is done in the model."""
        try:
            act(deepcopy(self.model))
        except TwinError as refusal:
            return type(refusal)
        act(self.model)
        return None

    @rule(hours=HOURS)
    def time_passes(self, hours: float) -> None:
        self.teller.after(hours)

    @precondition(lambda self: self.repeat is not None)
    @rule()
    def retry(self) -> None:
        assert self.repeat is not None
        assert self.do(self.repeat).replayed

    @rule(amount=st.integers(1, 9))
    def lose_a_transaction(self, amount: int) -> None:
        async def lost() -> None:
            transaction = self.teller.conn.transaction()
            await transaction.start()
            await self.teller.grant(amount)
            answer = await self.teller.reserve(amount)
            if answer.hold_id is not None:
                await self.teller.capture(answer.hold_id, amount)
            await transaction.rollback()

        self.runner.run(lost())

    @rule(amount=st.integers(1, 9), reserves=st.booleans())
    def lose_the_backend(self, amount: int, reserves: bool) -> None:
        """It is killed after it answered and before it committed."""

        async def lost() -> None:
            doomed = await connect(self.url)
            await doomed.execute("BEGIN")
            there = Teller(doomed, self.teller.user_id, self.teller.now)
            await (there.reserve(amount) if reserves else there.adjust(amount))
            await self.teller.conn.execute("SELECT pg_terminate_backend($1, 5000)", doomed.get_server_pid())
            doomed.terminate()

        self.runner.run(lost())

    @invariant()
    def what_was_written_is_what_was_predicted(self) -> None:
        assert self.runner.run(self.teller.named_entries()) == self.model.moves
        assert self.runner.run(self.teller.warnings()) == self.model.warnings
        looked = deepcopy(self.model)
        looked.look(self.teller.now)
        assert self.runner.run(self.teller.balance()) == looked.balance(self.teller.now)

    def teardown(self) -> None:
        try:
            self.runner.run(assert_ledger_clean(self.teller.conn))
        finally:
            self.runner.run(self.teller.conn.close())
            self.runner.close()
