"""The people of a benchmark: accounts with more credits than they can spend."""

from collections.abc import Iterator

import asyncpg

CREDITS = 1_000_000_000

_OPEN = """
SELECT count(ledger_grant(
    p_user_id => 'user_bench_' || n, p_key => 'bench', p_amount => $2, p_kind => 'paid',
    p_source_ref => 'bench', p_actor => 'bench'
)) FROM generate_series($1::bigint, $3::bigint - 1) AS n
"""
# A transaction holds a lock for each account that it has touched, and Postgres has room for some thousands.
_AT_ONCE = 1000


def in_parts(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut a range of accounts into transactions: (first, last) of each, `last` not in it."""
    for begin in range(first, last, _AT_ONCE):
        yield begin, min(begin + _AT_ONCE, last)


def account(number: int) -> str:
    """The user id of one of them; every statement of a benchmark builds the same."""
    return f"user_bench_{number}"


async def open_accounts(database_url: str, count: int) -> None:
    """Open `count` accounts and fill them, many in a statement: many are wanted soon."""
    connection = await asyncpg.connect(database_url)
    try:
        for first, last in in_parts(0, count):
            await connection.fetchval(_OPEN, first, CREDITS, last)
    finally:
        await connection.close()
