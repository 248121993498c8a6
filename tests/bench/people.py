"""The people of a benchmark: accounts with more credits than they can spend."""

import asyncpg

CREDITS = 1_000_000_000

_OPEN = """
SELECT count(ledger_grant(
    p_user_id => 'user_bench_' || n, p_key => 'bench', p_amount => $2, p_kind => 'paid',
    p_source_ref => 'bench', p_actor => 'bench'
)) FROM generate_series(0, $1::bigint - 1) AS n
"""


def account(number: int) -> str:
    """The user id of one of them; every statement of a benchmark builds the same."""
    return f"user_bench_{number}"


async def open_accounts(database_url: str, count: int) -> None:
    """Open `count` accounts and fill them, in one statement: many are wanted soon."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.fetchval(_OPEN, count, CREDITS)
    finally:
        await connection.close()
