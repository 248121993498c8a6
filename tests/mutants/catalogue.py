"""Every mutant: edits of the functions, and each constraint and trigger of the tables that they guard dropped."""

from shared.database import Connection
from tests.mutants import access, acts, generations, holds, money, prices, rules, terms
from tests.mutants.mutant import Mutant

# Foreign keys and primary keys are left: every test would fail at once, or what they refuse cannot be written anyway.
_DROPPED = """
SELECT c.conname AS name, format('ALTER TABLE public.%I DROP CONSTRAINT %I', r.relname, c.conname) AS statement
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid
WHERE c.connamespace = 'public'::regnamespace AND c.contype IN ('c', 'u') AND r.relname = ANY ($1)
    AND c.conname <> ALL ($2)
UNION ALL
SELECT i.relname, format('DROP INDEX public.%I', i.relname)
FROM pg_index x JOIN pg_class r ON r.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE x.indisunique AND r.relnamespace = 'public'::regnamespace AND r.relname = ANY ($1)
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.indexrelid)
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
    "price_versions",
    "generations",
    "idempotency_keys",
]

# What another rule refuses, too: an endpoint's name has characters, so it is not empty.
REDUNDANT = ["price_versions_endpoint_check"]

EDITS = {
    **rules.EDITS,
    **money.EDITS,
    **holds.EDITS,
    **terms.EDITS,
    **acts.EDITS,
    **prices.EDITS,
    **generations.EDITS,
    **access.EDITS,
}
# Every operation waits for a lock only so long.
OPERATIONS = [
    "adjust",
    "capture",
    "expire",
    "expire_due",
    "grant",
    "open_account",
    "refresh",
    "release",
    "reverse_charge",
    "reverse_grant",
    "set_plan",
    "set_terms",
    "set_time_zone",
]

EDITED = [
    *(
        Mutant(f"{function.removeprefix('ledger_')}: {name}", function, old, new)
        for function, edits in EDITS.items()
        for name, old, new in edits
    ),
    *(
        Mutant(f"{name}: wait for ever", f"ledger_{name}", "lock_timeout TO '3s'", "lock_timeout TO '0'")
        for name in OPERATIONS
    ),
]


async def every_mutant(connection: Connection) -> dict[str, Mutant]:
    """All of them by name; the constraints and triggers are those that the migrated database has."""
    dropped = [
        Mutant(f"without {row['name']}", statement=row["statement"])
        for row in await connection.fetch(_DROPPED, TABLES, REDUNDANT)
    ]
    return {mutant.name: mutant for mutant in [*EDITED, *dropped]}
