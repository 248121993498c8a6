"""What a session may do to one account of lives.py: the words of test_interleavings.py."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from shared import corrections, ledger, plans, pricing
from shared.generations import Type
from tests.ledger.lives import hold, label
from tests.ledger.teller import HOUR, Teller

Side = str
"""Which of the two sessions: "a" or "b"."""


@dataclass(frozen=True)
class Act:
    """One call of the ledger, in words and as a coroutine."""

    name: str
    do: Callable[[Teller, Side], Awaitable[Any]]
    apart: bool = False
    """It does not ask for the account: it waits for none of its transactions, and they do not wait for it."""
    passes: bool = False
    """It passes over an account that is busy."""

    def __str__(self) -> str:
        return self.name


def _settle(name: str, which: str, key: str | None = None, **amounts: int) -> Act:
    """Capture or release one of the two holds; without a key the two sessions have one each."""

    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        own = key or f"{name}-{side}"
        amount = amounts.get(side, amounts.get("both"))
        if amount is None:
            return teller.release(hold(teller.user_id, which), key=own)
        return teller.capture(hold(teller.user_id, which), amount, key=own)

    return Act(name, do)


def _reserve_act(name: str, *, key: str | None = None, generation: str | None = None, **amounts: int) -> Act:
    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        amount = amounts.get(side, amounts.get("both", 0))
        return teller.reserve(
            amount, key=key or f"{name}-{side}", generation_id=hold(teller.user_id, generation or f"{name}-{side}")
        )

    return Act(name, do)


def _grant(name: str, *, key: str | None = None, ref: str | None = None, **amounts: int) -> Act:
    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        amount = amounts.get(side, amounts.get("both", 0))
        return teller.grant(amount, key=key or f"{name}-{side}", ref=ref or f"{name}-{side}")

    return Act(name, do)


async def _reserve_named(teller: Teller, side: Side) -> Any:
    """As reserve, with a hold whose id the other session knows already."""
    return await teller.conn.fetchval(
        "SELECT ledger_reserve($1, 'new', $2, 7, $3, '{}', $2, $4) ->> 'outcome'",
        teller.user_id,
        hold(teller.user_id, "new"),
        teller.now + HOUR,
        teller.now,
    )


async def _refresh(teller: Teller, side: Side) -> None:
    """Its answer is a hint: whoever waited while somebody else did it says so, too."""
    await ledger.refresh(teller.conn, user_id=teller.user_id, now=teller.now)


def _adjust(name: str, amount: int) -> Act:
    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        return corrections.adjust(
            teller.conn,
            user_id=teller.user_id,
            key=f"{name}-{side}",
            amount=amount,
            reason="mistake",
            actor="tester",
            now=teller.now,
        )

    return Act(name, do)


def _reverse_grant(teller: Teller, side: Side) -> Awaitable[Any]:
    return corrections.reverse_grant(
        teller.conn,
        user_id=teller.user_id,
        kind="paid",
        source_ref="paid",
        amount=None,
        reason="charged back",
        actor="tester",
        now=teller.now,
    )


def _reverse_charge(teller: Teller, side: Side) -> Awaitable[Any]:
    charged = hold(teller.user_id, "charged")
    return corrections.reverse_charge(
        teller.conn, hold_id=charged, amount=None, reason="a bad picture", actor="tester", now=teller.now
    )


def _set_terms(teller: Teller, side: Side) -> Awaitable[Any]:
    terms = {"overdraft_limit": 6 if side == "a" else 1}
    return plans.set_terms(
        teller.conn, user_id=teller.user_id, key=f"terms-{side}", terms=terms, reason=None, actor="tester"
    )


def _set_time_zone(teller: Teller, side: Side) -> Awaitable[Any]:
    return plans.set_time_zone(teller.conn, user_id=teller.user_id, time_zone="UTC", actor="tester", now=teller.now)


def _set_plan(term: str, **amounts: int) -> Act:
    """The account's own plan. One term each: an operation reads them one after the other, not in one moment."""

    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        return plans.set_plan(
            teller.conn,
            plan=label(teller.user_id),
            key=f"{side} {teller.user_id}",
            terms={term: amounts[side]},
            reason=None,
            actor=teller.user_id,
            now=teller.now,
        )

    return Act(f"set the plan's {term}", do, apart=True)


async def _add_price(teller: Teller, side: Side) -> bool:
    """Of the endpoint that the account asks for. Its number and its link are those of everybody's list."""
    _, replayed = await pricing.add(
        teller.conn,
        key=f"{side} {teller.user_id}",
        generation_type=Type.IMAGE,
        endpoint=label(teller.user_id),
        unit_credits=9 if side == "a" else 10,
        actor=teller.user_id,
        now=teller.now,
    )
    return replayed


async def _reserve_at_the_price(teller: Teller, side: Side) -> Any:
    """As the API does: what the list says now is what is reserved."""
    price = await pricing.in_force(teller.conn, Type.IMAGE, endpoint=label(teller.user_id), now=teller.now)
    return await teller.reserve(
        price.unit_credits, key=f"price-{side}", generation_id=hold(teller.user_id, f"price-{side}")
    )


def _open(teller: Teller, side: Side) -> Awaitable[bool]:
    return ledger.open_account(teller.conn, user_id=teller.user_id, policy="hard")


RESERVE = _reserve_act("reserve", a=8, b=7)
CAPTURE = _settle("capture", "open", both=4)
CAPTURE_LATE = _settle("capture late", "late", both=3)
RELEASE = _settle("release", "open")
GRANT = _grant("grant", both=3)
EXPIRE = Act("expire", lambda teller, _: teller.expire())

EVERY = [
    RESERVE,
    CAPTURE,
    CAPTURE_LATE,
    RELEASE,
    GRANT,
    EXPIRE,
    Act("refresh", _refresh),
    _adjust("adjust up", 3),
    _adjust("adjust down", -6),
    Act("reverse the grant", _reverse_grant),
    Act("reverse the charge", _reverse_charge),
    Act("set terms", _set_terms),
    Act("set the time zone", _set_time_zone),
    _reserve_act("reserve again", generation="given back", a=5, b=7),
    Act("reserve at the price", _reserve_at_the_price),
    Act("add a price", _add_price, apart=True),
    _set_plan("overdraft_limit", a=6, b=1),
    _set_plan("daily_credits", a=1, b=3),
    Act("open again", _open),
]
"""One of each operation on the same account, each session with keys of its own."""

SWEEP = Act("sweep", lambda teller, _: ledger.expire_due(teller.conn, limit=10, now=teller.now), passes=True)
SWEPT_NOTHING = ledger.Expired(accounts=0, holds=0, credits=0)
"""What the sweep says that passed over the only account there was."""

SAME_KEY = _reserve_act("reserve, one key", key="one", generation="one", both=8)
NEW = Act("reserve what the other knows", _reserve_named)
RELEASE_LATE = _settle("release the lapsed", "late")

CLOSE = [
    *(
        (act, act)
        for act in (
            SAME_KEY,
            _reserve_act("reserve, one key for two requests", key="one", generation="one", a=8, b=7),
            _reserve_act("reserve for one generation", generation="one", both=4),
            _settle("capture, one key", "open", "one", both=4),
            _settle("capture, one key for two requests", "open", "one", a=4, b=5),
            _settle("capture late, one key", "late", "one", both=3),
            _settle("release, one key", "open", "one"),
            _grant("grant, one source", ref="one", both=3),
            _grant("grant, one key", key="one", ref="one", both=3),
            _grant("grant, one source on two terms", ref="one", a=3, b=4),
        )
    ),
    (CAPTURE_LATE, RELEASE_LATE),
    (RELEASE_LATE, EXPIRE),
    (SAME_KEY, _settle("capture, with the other's key", "open", "one", both=4)),
    (SAME_KEY, _grant("grant, with the other's key", key="one", both=4)),
    (NEW, _settle("capture what the other reserves", "new", both=5)),
    (NEW, _settle("release what the other reserves", "new")),
]
"""Pairs that want the same thing: the same hold, key, generation or source."""

STRANGERS = [
    Act("open", _open),
    RESERVE,
    GRANT,
    EXPIRE,
]
"""What may be the first that the ledger hears of somebody."""
