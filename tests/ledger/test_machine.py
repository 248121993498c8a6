"""Hypothesis lives a person's life: any order of operations, time passing, retries and lost transactions.

After every step the database must have written exactly the movements that the model predicts.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from shared import ledger
from shared.credits import Correction
from shared.errors import HoldExists, HoldNotOpen, OverCapture
from tests.ledger.buckets import Bucket, Hold
from tests.ledger.days import ZONES
from tests.ledger.life import HOURS, Somebody
from tests.ledger.model import Model
from tests.ledger.teller import HOUR, fresh

DAILY = st.sampled_from([0, 3, 12])
POLICIES = st.sampled_from(["hard", "soft", "off"])
NOONS = st.sampled_from(
    [
        datetime(2026, 3, 7, 22, tzinfo=UTC),
        datetime(2026, 3, 28, 12, tzinfo=UTC),
        datetime(2026, 10, 24, 21, tzinfo=UTC),
        datetime(2026, 10, 31, 23, tzinfo=UTC),
    ]
)
"""Shortly before the clocks change somewhere."""


class Life(Somebody):
    """Everything that may be done to an account."""

    @initialize(start=NOONS, policy=POLICIES, limit=st.integers(0, 20), threshold=st.integers(0, 9), daily=DAILY)
    def open(self, start: datetime, policy: ledger.Policy, limit: int, threshold: int, daily: int) -> None:
        self.model = Model(policy=policy, limit=limit, threshold=threshold, daily=daily)
        self.teller.now = start
        terms = {"policy": policy, "overdraft_limit": limit, "low_balance_threshold": threshold}
        self.runner.run(self.teller.plan(name=self.plan, daily_credits=daily))
        self.runner.run(self.teller.open(plan=self.plan, **terms))

    @rule(
        amount=st.integers(1, 20),
        kind=st.sampled_from(["promo", "adjust", "plan", "paid"]),
        priority=st.sampled_from([None, None, 1, 100]),
        starts=st.sampled_from([None, None, 0, 0.5, 2]),
        lasts=st.sampled_from([None, 1, 3, 5]),
    )
    def grant(
        self, amount: int, kind: ledger.Kind, priority: int | None, starts: float | None, lasts: float | None
    ) -> None:
        if starts is not None and lasts is not None and lasts <= starts:
            lasts = starts + 1
        key, ref, now = fresh("g"), fresh("ref"), self.teller.now
        given = self.do(
            lambda: self.at(now).grant(amount, kind, ref=ref, key=key, priority=priority, starts=starts, lasts=lasts)
        )
        bucket = Bucket(
            kind=kind,
            ref=ref,
            granted=amount,
            priority=100 if priority is None else priority,
            effective_at=now + (starts or 0) * HOUR,
            expires_at=None if lasts is None else now + lasts * HOUR,
        )
        self.model.grant(bucket, now)
        assert given.balance == self.model.balance(now)

    @rule(amount=st.integers(0, 25), lasts=HOURS, other=st.integers(0, 25), again=st.none() | st.integers(0, 999))
    def reserve(self, amount: int, lasts: float, other: int, again: int | None) -> None:
        key, now, holds = fresh("r"), self.teller.now, self.model.holds
        generation_id = uuid4() if again is None or not holds else holds[again % len(holds)].generation_id
        quoted = self.runner.run(self.teller.decide(amount))

        async def call() -> ledger.Reservation:
            return await self.at(now).reserve(amount, key=key, generation_id=generation_id, lasts=lasts)

        if quoted.verdict != "block" and not self.model.may_hold(generation_id):
            self.refused(call, HoldExists)
            return
        answer = self.do(call)
        self.model.look(now)
        assert quoted == self.model.decide(amount, now)
        assert answer.decision == self.model.decide(amount, now, quote=False)
        assert (answer.hold_id is None) == (answer.decision.verdict == "block")
        if answer.hold_id is not None:
            self.model.reserve(answer.hold_id, amount, now + lasts * HOUR, now, generation_id=generation_id)
        assert answer.balance == self.model.balance(now)
        assert self.runner.run(self.teller.decide(other)) == self.model.decide(other, now)

    def some_hold(self, number: int) -> Hold:
        """Rather one that can still be settled."""
        unsettled = [hold for hold in self.model.holds if not hold.final]
        choice = unsettled if unsettled and number % 8 else self.model.holds
        return choice[number // 8 % len(choice)]

    @precondition(lambda self: self.model.holds)
    @rule(number=st.integers(0, 999), amount=st.integers(0, 26), whole=st.booleans())
    def capture(self, number: int, amount: int, whole: bool) -> None:
        hold, key, now = self.some_hold(number), fresh("c"), self.teller.now
        amount = hold.quoted if whole else amount
        late = hold.state == "expired"

        async def call() -> ledger.Settlement:
            return await self.at(now).capture(hold.hold_id, amount, key=key)

        if hold.final or amount > hold.quoted:
            self.refused(call, HoldNotOpen if hold.final else OverCapture)
            return
        settled = self.do(call)
        if late:
            self.model.capture_late(hold, amount, now)
        else:
            self.model.settle(hold, amount, "captured", now)
        assert (settled.captured, settled.released, settled.late) == (amount, hold.quoted - amount, late)

    @precondition(lambda self: self.model.holds)
    @rule(number=st.integers(0, 999))
    def release(self, number: int) -> None:
        hold, key, now = self.some_hold(number), fresh("x"), self.teller.now
        if hold.final:
            self.refused(lambda: self.at(now).release(hold.hold_id, key=key), HoldNotOpen)
            return
        self.do(lambda: self.at(now).release(hold.hold_id, key=key))
        if hold.state == "expired":
            hold.final = True
        else:
            self.model.settle(hold, 0, "released", now)

    @rule()
    def sweep(self) -> None:
        expired = self.runner.run(self.teller.expire())
        assert expired.holds == self.model.expire(self.teller.now)

    @rule(amount=st.integers(-12, 12).filter(bool), lasts=st.sampled_from([None, 3]))
    def adjust(self, amount: int, lasts: float | None) -> None:
        key, now = fresh("a"), self.teller.now
        lasts = lasts if amount > 0 else None

        async def call() -> Correction:
            return await self.at(now).adjust(amount, key=key, lasts=lasts)

        ends = None if lasts is None else now + lasts * HOUR
        bucket = Bucket(kind="adjust", ref=key, granted=amount, effective_at=now, expires_at=ends)
        if amount > 0:
            corrected = self.do(call)
            self.model.grant(bucket, now, "adjust")
        else:
            predicted = self.predicted(lambda model: model.adjust_down(-amount, now))
            if predicted:
                self.refused(call, predicted)
                return
            corrected = self.do(call)
        assert (corrected.amount, corrected.balance) == (amount, self.model.balance(now))

    @precondition(lambda self: self.model.buckets)
    @rule(number=st.integers(0, 999), amount=st.sampled_from([None, None, 1, 4, 15, 21]))
    def reverse_grant(self, number: int, amount: int | None) -> None:
        bucket, now = self.model.buckets[number % len(self.model.buckets)], self.teller.now
        kind: Any = bucket.kind

        async def call() -> Correction:
            return await self.at(now).reverse_grant(bucket.ref, amount, kind)

        same = bucket.reversed_by == (amount,)
        taken: list[int] = []
        place = self.model.buckets.index(bucket)
        predicted = (
            None if same else self.predicted(lambda m: taken.append(m.reverse_grant(m.buckets[place], amount, now)))
        )
        if predicted:
            self.refused(call, predicted)
            return
        corrected = self.do(call)
        assert corrected.replayed is same
        assert same or (-corrected.amount, corrected.balance) == (taken[0], self.model.balance(now))

    @precondition(lambda self: self.model.holds)
    @rule(number=st.integers(0, 999), amount=st.sampled_from([None, None, 1, 4, 15, 0]))
    def reverse_charge(self, number: int, amount: int | None) -> None:
        place, now = number % len(self.model.holds), self.teller.now
        hold = self.model.holds[place]

        async def call() -> Correction:
            return await self.at(now).reverse_charge(hold.hold_id, amount)

        same = hold.reversed_by == (amount,)
        given: list[int] = []
        predicted = (
            None if same else self.predicted(lambda m: given.append(m.reverse_charge(m.holds[place], amount, now)))
        )
        if predicted:
            self.refused(call, predicted)
            return
        corrected = self.do(call)
        assert corrected.replayed is same
        assert same or (corrected.amount, corrected.balance) == (given[0], self.model.balance(now))

    @rule()
    def look(self) -> None:
        before = len(self.model.moves)
        self.model.expire(self.teller.now)
        self.model.look(self.teller.now)
        wrote = self.runner.run(self.teller.look())
        assert wrote or len(self.model.moves) == before

    @rule(zone=st.sampled_from(ZONES))
    def move(self, zone: str) -> None:
        self.runner.run(self.teller.move_to(zone))
        self.model.move_to(zone, self.teller.now)

    @rule(policy=POLICIES, limit=st.integers(0, 20), daily=DAILY, of_plan=st.booleans())
    def terms_change(self, policy: str, limit: int, daily: int, of_plan: bool) -> None:
        """For this account alone, or for its plan and the account says nothing."""
        terms = {"policy": policy, "overdraft_limit": limit}
        plan = {"daily_credits": daily, **(terms if of_plan else {})}
        self.runner.run(self.teller.plan(name=self.plan, **plan))
        own, key = dict.fromkeys(terms) if of_plan else terms, fresh("t")
        now = self.teller.now
        self.do(lambda: self.at(now).set_terms(key=key, **own))
        self.model.policy, self.model.limit, self.model.daily = policy, limit, daily


def test_any_life_is_as_predicted(database_url: str) -> None:
    class Here(Life):
        url = database_url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            print_blob=True,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
