"""pgledger (github.com/pgr0ss/pgledger) beside us: its SQL comes from the user's copy, into a database of its own.

One of our cycles is two of its transfers: a person's credits to what is held of them, and from there to revenue. The
accounts' ids have the form of its own, and their numbers can be computed, which spares it a look-up. It is measured
twice: with one revenue account, as in its examples, and with one for every person, which is as good as it gets.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import asyncpg

from tests.bench import pgbench
from tests.bench.ground import Ground
from tests.bench.ledger.cells import Side, Size, by_pgbench
from tests.bench.options import BenchFailed
from tests.bench.people import CREDITS

ONE_REVENUE, MANY_REVENUES = "pgledger", "pgledger, revenue spread"

TRANSFERS = Path(__file__).with_name("transfers.sql").read_text(encoding="utf-8")

# Persons, what is held of them, and revenue, in this order; only what comes in may grow, only what goes out may fall.
_OPEN = """
INSERT INTO pgledger_accounts
    (id, name, currency, balance, allow_negative_balance, allow_positive_balance, created_at, updated_at)
SELECT 'pgla_' || lpad(n::text, 26, '0'), 'bench ' || n, 'credits', CASE WHEN n < $1 THEN $2 ELSE 0 END,
    false, true, now(), now()
FROM generate_series(0, 3 * $1::bigint - 1) AS n
"""

# As ours: everybody has been here before.
_FIRST_TRANSFERS = """
SELECT count(*) FROM generate_series(0, $1::bigint - 1) AS n CROSS JOIN LATERAL pgledger_create_transfer(
    'pgla_' || lpad((n + $2::bigint)::text, 26, '0'), 'pgla_' || lpad((n + $2 + $1)::text, 26, '0'), 1
)
"""


def read(folder: Path) -> list[str]:
    """Its SQL: what it brings along in vendor/, and pgledger.sql at the end. BenchFailed when that is not there."""
    try:
        files = (*sorted(folder.glob("vendor/**/*.sql")), folder / "pgledger.sql")
        return [file.read_text(encoding="utf-8") for file in files]
    except OSError as error:
        raise BenchFailed(f"--pgledger names a folder without pgledger.sql: {error}") from error


def version(sql: Sequence[str]) -> str:
    """The start of the SHA-256 of its pgledger.sql."""
    return sha256(sql[-1].encode()).hexdigest()[:12]


def sides(ground: Ground, sql: Sequence[str], size: Size) -> dict[str, Side]:
    """Install it and return its two sides; none where there is no pgbench."""
    program = pgbench.find(ground.server.cluster.programs)
    if program is None:
        return {}
    database_url = asyncio.run(_install(ground, sql, accounts=size.accounts))
    return {
        ONE_REVENUE: by_pgbench(program, database_url, "\\set revenue 0\n" + TRANSFERS, size),
        MANY_REVENUES: by_pgbench(program, database_url, "\\set revenue :n\n" + TRANSFERS, size),
    }


async def _install(ground: Ground, sql: Sequence[str], *, accounts: int) -> str:
    url = ground.databases.url(await ground.databases.create_empty())
    connection = await asyncpg.connect(url)
    try:
        for file in sql:
            await connection.execute(file)
        await connection.execute(_OPEN, accounts, CREDITS)
        for first in (0, accounts):
            await connection.execute(_FIRST_TRANSFERS, accounts, first)
        await connection.execute("VACUUM ANALYZE")
    except asyncpg.PostgresError as error:
        msg = (
            f"pgledger's SQL was refused ({error}); --pgledger wants a whole clone: its vendor folder has what it needs"
        )
        raise BenchFailed(msg) from error
    finally:
        await connection.close()
    return url
