"""What a session may do to one account, and the account it does it to: the words of test_interleavings.py.

The account is in the middle of its life: an open hold that is past its end and not swept, a lapsed hold that may still
be captured late, a charged one, yesterday's daily credits that have run out unwritten, today's that are due, some
overdraft.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any
from uuid import UUID

from shared import corrections, ledger, plans
from shared.database import Connection
from tests.ledger.teller import HOUR, NOON, Teller

Side = str
"""Which of the two sessions: "a" or "b"."""

NOW = NOON + 2 * HOUR
"""When every act happens: an hour after midnight in Noumea, the day before in UTC."""

DAILY = "daily"


@dataclass(frozen=True)
class Act:
    """One call of the ledger, in words and as a coroutine."""

    name: str
    do: Callable[[Teller, Side], Awaitable[Any]]

    def __str__(self) -> str:
        return self.name


async def begin_lives(conn: Connection, user_ids: Sequence[str]) -> None:
    """Bring many accounts to where the acts find them, in few round trips."""
    names = list(user_ids)
    await conn.execute(
        "SELECT ledger_open_account(u, 'soft', 5, NULL, $2, 'Pacific/Noumea') FROM unnest($1::text[]) u", names, DAILY
    )
    for statement, at in (
        ("SELECT ledger_grant(u, 'paid', 18, 'paid', 'paid', 'tester', NULL, NULL, NULL, $2)", NOON),
        (_reserve("charged", 4, "30 minutes"), NOON),
        ("SELECT ledger_capture(md5(u || 'charged')::uuid, 'charge', 4, $2)", NOON),
        (_reserve("late", 3, "30 minutes"), NOON),
        ("SELECT ledger_expire(u, $2)", NOON + 0.6 * HOUR),
        (_reserve("open", 6, "30 minutes"), NOON + 0.6 * HOUR),
    ):
        source = " FROM unnest($1::text[]) u WHERE $2 IS NOT NULL"
        await conn.execute((statement + source).replace("$2", "$2::timestamptz"), names, at)


async def make_plan(conn: Connection) -> None:
    """The plan that they are on."""
    await plans.set_plan(conn, plan=DAILY, key=DAILY, terms={"daily_credits": 2}, reason=None, actor="tester", now=NOON)


def _reserve(name: str, amount: int, lasts: str) -> str:
    return (
        f"SELECT ledger_reserve(u, '{name}', md5(u || '{name}')::uuid, {amount}, $2 + '{lasts}', '{{}}', "
        f"md5(u || '{name}')::uuid, $2)"
    )


def hold(teller: Teller, name: str) -> UUID:
    """The hold of that name, and the generation it is for."""
    return UUID(md5(f"{teller.user_id}{name}".encode(), usedforsecurity=False).hexdigest())


def _settle(name: str, which: str, key: str | None = None, **amounts: int) -> Act:
    """Capture or release one of the two holds; without a key the two sessions have one each."""

    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        own = key or f"{name}-{side}"
        amount = amounts.get(side, amounts.get("both"))
        if amount is None:
            return teller.release(hold(teller, which), key=own)
        return teller.capture(hold(teller, which), amount, key=own)

    return Act(name, do)


def _reserve_act(name: str, *, key: str | None = None, generation: str | None = None, **amounts: int) -> Act:
    def do(teller: Teller, side: Side) -> Awaitable[Any]:
        amount = amounts.get(side, amounts.get("both", 0))
        return teller.reserve(
            amount, key=key or f"{name}-{side}", generation_id=hold(teller, generation or f"{name}-{side}")
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
        hold(teller, "new"),
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
    charged = hold(teller, "charged")
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
]
"""One of each operation on the same account, each session with keys of its own."""

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
    Act("open", lambda teller, _: ledger.open_account(teller.conn, user_id=teller.user_id, policy="hard")),
    RESERVE,
    GRANT,
    EXPIRE,
]
"""What may be the first that the ledger hears of somebody."""
