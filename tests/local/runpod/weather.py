"""Trouble to order: what goes wrong, where, how often."""

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.local.runpod.clock import Clock


class Trouble(StrEnum):
    """What can be ordered to go wrong."""

    LATENCY = "latency"
    """A public call is answered `seconds` later."""
    COLD_START = "cold_start"
    """A new job stays IN_QUEUE for `seconds` before any worker may take it."""
    RATE_LIMITED = "rate_limited"
    """429; with `seconds`, a Retry-After header says so."""
    PAUSED = "paused"
    """409 on run, runsync and retry."""
    SERVER_ERROR = "server_error"
    """A 5xx of your choice (`status`, 500); nothing is done."""
    TIMEOUT_BEFORE = "timeout_before_accepting"
    """Nothing is done and no answer comes; the connection goes after `seconds` (60)."""
    TIMEOUT_AFTER = "timeout_after_accepting"
    """The call is done, but no answer comes; the connection goes after `seconds` (60)."""
    DROPPED_BEFORE = "dropped_before_accepting"
    """Nothing is done and the connection goes at once."""
    DROPPED_AFTER = "dropped_after_accepting"
    """The call is done and the connection goes at once."""
    WEBHOOK_LOST = "webhook_lost"
    """The webhook is never sent."""
    WEBHOOK_DOUBLED = "webhook_doubled"
    """The webhook is sent twice."""
    WEBHOOK_REORDERED = "webhook_reordered"
    """The webhook is sent after the next one, or after `seconds` (30) if there is no next one."""
    WEBHOOK_DELAYED = "webhook_delayed"
    """The webhook is sent `seconds` later."""
    FORGOTTEN = "forgotten"
    """404 on a job that exists (status, stream, cancel, retry); the job itself lives on."""
    OVERSIZED_RESULT = "oversized_result"
    """The worker's result is thrown away: COMPLETED without output."""
    THROTTLED = "throttled"
    """No worker gets a job: everything stays IN_QUEUE until the order is taken back (a `count` counts the looks)."""
    WORKER_CRASH = "worker_crash"
    """The worker dies `seconds` (0) after it was given a job; a real one is killed."""


_SECONDS_BY_DEFAULT = {
    Trouble.LATENCY: 1.0,
    Trouble.COLD_START: 30.0,
    Trouble.TIMEOUT_BEFORE: 60.0,
    Trouble.TIMEOUT_AFTER: 60.0,
    Trouble.WEBHOOK_REORDERED: 30.0,
    Trouble.WEBHOOK_DELAYED: 30.0,
}


MOST_ORDERS: Final = 100


class TooManyOrders(Exception):
    """No more orders are taken; the message says how many stand."""


class Order(BaseModel):
    """One order for trouble.

    Without `endpoint` it holds for all endpoints, without `operation` for every operation it makes sense for.
    `count` bounds how often it strikes, `lasting_seconds` how long it stands; `probability` below 1 lets it strike at
    random, the same way for a `seed`.
    """

    model_config = ConfigDict(extra="forbid")

    trouble: Trouble
    endpoint: str | None = None
    operation: str | None = None
    seconds: float = Field(default=-1.0, le=86_400)
    status: int = Field(default=500, ge=500, le=599)
    count: int | None = Field(default=None, ge=1, le=1_000_000)
    lasting_seconds: float | None = Field(default=None, gt=0, le=86_400)
    probability: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _default_seconds(self) -> Self:
        if "seconds" not in self.model_fields_set:
            self.seconds = _SECONDS_BY_DEFAULT.get(self.trouble, 0.0)
        if self.seconds < 0:
            raise ValueError("seconds must not be negative")
        return self


class _Standing:
    """An order with what is left of it."""

    def __init__(self, order: Order, clock: Clock) -> None:
        self.order = order
        self.left = order.count
        self.dice = random.Random(order.seed)
        self._clock = clock
        self._ends_at = None if order.lasting_seconds is None else clock() + order.lasting_seconds

    @property
    def ends_in(self) -> float | None:
        """Seconds until it is over; None when nothing says so."""
        return None if self._ends_at is None else self._ends_at - self._clock()

    @property
    def over(self) -> bool:
        """Whether it can strike no more."""
        ends_in = self.ends_in
        return self.left == 0 or (ends_in is not None and ends_in <= 0)

    def same_place(self, order: Order) -> bool:
        """Whether it is about the same trouble in the same place."""
        mine = self.order
        return (mine.trouble, mine.endpoint, mine.operation) == (order.trouble, order.endpoint, order.operation)

    def strikes(self, endpoint_id: str, operation: str | None) -> bool:
        order = self.order
        if self.over or order.endpoint not in {None, endpoint_id}:
            return False
        if order.operation is not None and operation is not None and order.operation != operation:
            return False
        if order.probability < 1 and self.dice.random() >= order.probability:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Weather:
    """The standing orders, at most `MOST_ORDERS`. Fine weather when there are none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._standing: dict[Trouble, list[_Standing]] = {}

    def order(self, trouble: Trouble | str, **details: Any) -> Order:
        """Order trouble: `weather.order("rate_limited", endpoint="text", count=3)`. See `Order` for the details."""
        order = Order(trouble=Trouble(trouble), **details)
        self.add(order)
        return order

    def add(self, order: Order) -> None:
        """Add an order to those that stand. Raises TooManyOrders."""
        if sum(not one.over for orders in self._standing.values() for one in orders) >= MOST_ORDERS:
            raise TooManyOrders(f"{MOST_ORDERS} orders stand already; take some back first")
        standing = self._standing.setdefault(order.trouble, [])
        standing[:] = [one for one in standing if not one.over]
        standing.append(_Standing(order, self._clock))

    def replace(self, order: Order) -> None:
        """Add an order in the place of those for the same trouble, endpoint and operation. Raises TooManyOrders."""
        standing = self._standing.get(order.trouble, [])
        standing[:] = [one for one in standing if not one.same_place(order)]
        self.add(order)

    def take(self, orders: Sequence[Order], *, instead: bool, cleared: bool = False) -> None:
        """Add orders, or set them `instead` of those in their places or of all (`cleared`): all of them or none.

        Raises TooManyOrders.
        """
        before = {trouble: list(standing) for trouble, standing in self._standing.items()}
        if cleared:
            self.clear()
        try:
            for order in orders:
                (self.replace if instead else self.add)(order)
        except TooManyOrders:
            self._standing = before
            raise

    def clear(self, trouble: Trouble | str | None = None) -> None:
        """Take back every order, or those for one kind of trouble."""
        if trouble is None:
            self._standing.clear()
        else:
            self._standing.pop(Trouble(trouble), None)

    def strikes(self, trouble: Trouble, endpoint_id: str, operation: str | None = None) -> Order | None:
        """Ask whether this trouble happens here and now; a counted order is used up by one."""
        standing = self._standing.get(trouble)
        if not standing:
            return None
        for one in standing:
            if one.strikes(endpoint_id, operation):
                return one.order
        return None

    def forecast(self) -> Sequence[dict[str, Any]]:
        """Every standing order as JSON, with `left` and `ends_in` (None for without end)."""
        return [
            one.order.model_dump(mode="json") | {"left": one.left, "ends_in": one.ends_in}
            for orders in self._standing.values()
            for one in orders
            if not one.over
        ]
