"""On what terms people have credits: plans, what one person has instead, and where their day begins.

Every change is a row of `credit_operations` with who made it, what was and what is. Functions take a connection and
never commit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from shared import ledger, sql
from shared.credits import Policy
from shared.database import Connection

_SQL = sql.load(__file__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What everybody on it has, unless their account says otherwise. Amounts are whole credits.

    Attributes:
        daily_credits: given once for each local day on which a person comes; they end with it.
        policy: hard never lends, soft lends up to `overdraft_limit`, off lets everything through.
        low_balance_threshold: with less than this left, a person is warned.
        weight: share of the workers beside other plans.
        max_in_flight: how many generations of one person are on their way at once; None: any number.
    """

    plan: str
    daily_credits: int
    policy: Policy
    overdraft_limit: int
    low_balance_threshold: int
    weight: int
    max_in_flight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one account says for itself; None is the plan's."""

    plan: str
    policy: Policy | None
    overdraft_limit: int | None
    low_balance_threshold: int | None
    time_zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was (None: nothing) and what is."""

    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    replayed: bool


async def all_plans(conn: Connection) -> list[Plan]:
    """Every plan, by name."""
    return [Plan(**row) for row in await conn.fetch(_SQL["plans"])]


async def terms_of(conn: Connection, user_id: str) -> Terms | None:
    """What an account says; None when there is no such account yet."""
    row = await conn.fetchrow(_SQL["terms"], user_id)
    return None if row is None else Terms(**row)


async def set_plan(
    conn: Connection,
    *,
    plan: str,
    key: str,
    terms: Mapping[str, Any],
    reason: str | None,
    actor: str,
    now: datetime | None = None,
) -> Change:
    """Make a plan, or change what `terms` names of it (the fields of Plan). Holds already given keep theirs.

    A lower `max_in_flight` stops nothing that is on its way; a higher one is noticed when one of the person's ends.

    Raises:
        InvalidAmount, KeyReused.
    """
    return Change(**await ledger.call(conn, _SQL["set_plan"], plan, key, _text(terms), reason, actor, now))


async def set_terms(
    conn: Connection,
    *,
    user_id: str,
    key: str,
    terms: Mapping[str, Any],
    reason: str | None,
    actor: str,
    now: datetime | None = None,
) -> Change:
    """Change what `terms` names of an account: plan, policy, overdraft_limit, low_balance_threshold; None: the plan's.

    Raises:
        UnknownPlan, InvalidAmount, KeyReused.
    """
    return Change(**await ledger.call(conn, _SQL["set_terms"], user_id, key, _text(terms), reason, actor, now))


async def set_time_zone(
    conn: Connection, *, user_id: str, time_zone: str, actor: str, now: datetime | None = None
) -> None:
    """Move a person's midnight. No date is granted twice and none is lost; today's credits last until its end there.

    Raises:
        UnknownTimeZone.
    """
    await ledger.call(conn, _SQL["set_time_zone"], user_id, time_zone, actor, now)


def _text(terms: Mapping[str, Any]) -> str:
    return orjson.dumps(terms, option=orjson.OPT_SORT_KEYS).decode()
