"""Accounts with a past: what a random person may have lived through, over a month that is over."""

import contextlib
from datetime import UTC, datetime, timedelta
from random import Random
from secrets import token_hex
from uuid import UUID

from shared import corrections, ledger, plans
from shared.database import Connection
from shared.errors import NotEnough
from tests.ledger.teller import Teller

ACTS = 60


def month_ago() -> datetime:
    return datetime.now(UTC) - timedelta(days=40)


async def daily_plan(connection: Connection, daily_credits: int) -> str:
    """A plan of one's own with free credits."""
    name = f"plan-{token_hex(4)}"
    terms = {"daily_credits": daily_credits}
    await plans.set_plan(connection, plan=name, key=name, terms=terms, reason=None, actor="test")
    return name


async def random_history(connection: Connection, random: Random) -> Teller:
    """A person who was given credits, made things, lost some, owed some: every kind of entry comes about."""
    teller = Teller(connection, now=month_ago())
    await teller.open(plan=await daily_plan(connection, 3), overdraft_limit=20)
    holds: list[tuple[UUID, int]] = []
    for _ in range(ACTS):
        teller.after(random.random() * 12)
        match random.choice(
            ["grant", "ends", "hold", "hold", "hold", "capture", "capture", "release", "adjust", "look"]
        ):
            case "grant":
                await teller.grant(random.randint(1, 30), random.choice(["promo", "paid", "plan"]))
            case "ends":
                await teller.grant(random.randint(1, 30), "promo", lasts=random.random() * 48)
            case "hold":
                reserved = await teller.reserve(random.randint(0, 12), lasts=random.choice([2, 100]))
                holds += [(reserved.hold_id, reserved.decision.balance.available)] if reserved.hold_id else []
            case "capture" if holds:
                hold_id, _ = holds.pop(random.randrange(len(holds)))
                quoted = await connection.fetchval("SELECT quoted FROM credit_holds WHERE hold_id = $1", hold_id)
                await teller.capture(hold_id, random.randint(0, quoted))
            case "release" if holds:
                await teller.release(holds.pop()[0])
            case "adjust":
                with contextlib.suppress(NotEnough):
                    await corrections.adjust(
                        connection,
                        user_id=teller.user_id,
                        key=token_hex(8),
                        amount=random.choice([-4, -2, 5]),
                        reason="a mistake",
                        actor="test",
                        now=teller.now,
                    )
            case _:
                await ledger.refresh(connection, user_id=teller.user_id, now=teller.now)
    return teller
