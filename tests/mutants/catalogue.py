"""Every mutant: edits of the functions, and each constraint and trigger of the ledger's tables dropped."""

from shared.database import Connection
from tests.mutants import holds, money, rules, terms
from tests.mutants.mutant import Mutant

# Foreign keys and primary keys are left: every test would fail at once, or what they refuse cannot be written anyway.
_DROPPED = """
SELECT c.conname AS name, format('ALTER TABLE public.%I DROP CONSTRAINT %I', r.relname, c.conname) AS statement
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'u') AND r.relname = ANY ($1)
UNION ALL
SELECT t.tgname, format('DROP TRIGGER %I ON public.%I', t.tgname, r.relname)
FROM pg_trigger t JOIN pg_class r ON r.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND p.pronamespace = 'public'::regnamespace AND r.relname = ANY ($1)
ORDER BY 1
"""

TABLES = [
    "user_billing",
    "credit_plans",
    "credit_buckets",
    "credit_holds",
    "credit_entries",
    "credit_operations",
    "credit_warnings",
]

EDITED = [
    Mutant(f"{function.removeprefix('ledger_')}: {name}", function, old, new)
    for function, edits in {**rules.EDITS, **money.EDITS, **holds.EDITS, **terms.EDITS}.items()
    for name, old, new in edits
]


async def every_mutant(connection: Connection) -> dict[str, Mutant]:
    """All of them by name; the constraints and triggers are those that the migrated database has."""
    dropped = [
        Mutant(f"without {row['name']}", statement=row["statement"]) for row in await connection.fetch(_DROPPED, TABLES)
    ]
    return {mutant.name: mutant for mutant in [*EDITED, *dropped]}
