"""The people of a benchmark: accounts with more credits than they can spend."""

import asyncpg

from shared import ledger

CREDITS = 1_000_000


def account(number: int) -> str:
    """The user id of one of them; `pair.sql` builds the same."""
    return f"user_bench_{number}"


async def open_accounts(database_url: str, count: int) -> None:
    """Open `count` accounts and fill them."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            for number in range(count):
                await ledger.grant(
                    connection,
                    user_id=account(number),
                    key="bench",
                    amount=CREDITS,
                    kind="paid",
                    source_ref="bench",
                    actor="bench",
                )
    finally:
        await connection.close()
