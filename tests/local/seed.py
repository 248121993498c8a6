"""The demo person: there from the first start, never given anything twice."""

import asyncpg

from migrations.runner import migrate
from shared import ledger
from shared.database import prepare_connection

DEMO_USER = "user_demo"
DEMO_CREDITS = 100
_OVERDRAFT_LIMIT = 10


async def prepare(database_url: str, *, demo: bool) -> list[str]:
    """Migrate, and seed the demo person when asked; return what was applied, oldest first."""
    connection = await asyncpg.connect(database_url, statement_cache_size=0)
    try:
        applied = await migrate(connection)
        if demo:
            await prepare_connection(connection)
            await ledger.open_account(connection, user_id=DEMO_USER, overdraft_limit=_OVERDRAFT_LIMIT)
            await ledger.grant(
                connection,
                user_id=DEMO_USER,
                key="grant:welcome",
                amount=DEMO_CREDITS,
                kind="promo",
                source_ref="welcome",
                actor="local",
            )
    finally:
        await connection.close()
    return applied
