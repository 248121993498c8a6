"""What the database's schema is, compared with what this code expects.

The history lives where Supabase's own CLI keeps it, `supabase_migrations.schema_migrations`, so that
`supabase db push` and `python -m migrations` can take turns on one database. Ours are the rows whose name
starts with `twin_`; rows of anybody else are none of our business. Reading only: `migrations.runner` writes.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Self

from shared.database import Connection

OUR_PREFIX = "twin_"
_FILE_NAME = re.compile(r"(?P<version>\d{14})_(?P<name>twin_[a-z0-9_]+)\.sql")

# to_jsonb(row): a history written by Supabase's CLI alone has no checksum column yet.
_READ_HISTORY = """
SELECT version, to_jsonb(history) ->> 'name' AS name, to_jsonb(history) ->> 'checksum' AS checksum
  FROM supabase_migrations.schema_migrations AS history
 ORDER BY version
"""


class SchemaError(Exception):
    """The schema and the code do not fit; the message names the migration and what to do about it."""


class SchemaNewerThanCode(SchemaError):
    """The database has a migration of ours that this code has never heard of."""


class SchemaOlderThanCode(SchemaError):
    """A migration of ours is not applied yet."""


class MigrationChanged(SchemaError):
    """A file that was applied earlier reads differently today, or its version belongs to another file."""


class MigrationOutOfOrder(SchemaError):
    """A file that was never applied is older than one that was."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One forward-only SQL file: `<14 digits>_twin_<name>.sql`."""

    version: str
    name: str
    sql: str

    @property
    def label(self) -> str:
        """The file's name without its ending, as people say it."""
        return f"{self.version}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the text; line endings do not count, a checkout may translate them."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


class SchemaState(StrEnum):
    """What readiness wants to know."""

    UP_TO_DATE = "up-to-date"
    PENDING = "pending"
    NEWER = "newer"
    CHANGED = "changed"
    OUT_OF_ORDER = "out-of-order"


_REFUSALS: Mapping[SchemaState, type[SchemaError]] = {
    SchemaState.NEWER: SchemaNewerThanCode,
    SchemaState.CHANGED: MigrationChanged,
    SchemaState.OUT_OF_ORDER: MigrationOutOfOrder,
}


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """The comparison: its outcome, a sentence, and the files still to apply (oldest first)."""

    state: SchemaState
    detail: str
    pending: tuple[Migration, ...] = ()
    adoptable: tuple[Migration, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether this code may serve from that schema."""
        return self.state is SchemaState.UP_TO_DATE

    def refuse_misfit(self) -> Self:
        """Return self when migrating may go on; raise the SchemaError that fits otherwise."""
        refusal = _REFUSALS.get(self.state)
        if refusal is not None:
            raise refusal(self.detail)
        return self


def read_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """Read every SQL file of a folder, oldest first. ValueError on a misnamed file or a version used twice."""
    found: dict[str, Migration] = {}
    for entry in folder.iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise ValueError(f"{entry.name}: a migration is named <14 digits>_twin_<name>.sql")
        migration = Migration(match["version"], match["name"], entry.read_text(encoding="utf-8"))
        if migration.version in found:
            raise ValueError(f"{migration.label} and {found[migration.version].label} share a version")
        found[migration.version] = migration
    return tuple(found[version] for version in sorted(found))


@cache
def known_migrations() -> tuple[Migration, ...]:
    """The migrations this code was built with."""
    return read_migrations(resources.files("migrations"))


async def schema_status(connection: Connection, known: Sequence[Migration] | None = None) -> SchemaStatus:
    """Compare the database's history with the known migrations. Reads only; one or two short queries."""
    expected = known_migrations() if known is None else known
    exists = await connection.fetchval("SELECT to_regclass('supabase_migrations.schema_migrations') IS NOT NULL")
    rows = await connection.fetch(_READ_HISTORY) if exists else []
    return _compare([(row["version"], row["name"], row["checksum"]) for row in rows], expected)


def _compare(history: Iterable[tuple[str, str | None, str | None]], known: Sequence[Migration]) -> SchemaStatus:
    by_version = {migration.version: migration for migration in known}
    applied: list[Migration] = []
    adoptable: list[Migration] = []
    for version, name, checksum in history:
        migration = by_version.get(version)
        if migration is None:
            if name is not None and name.startswith(OUR_PREFIX):
                detail = f"the database has {version}_{name}, which this code does not know: deploy newer code"
                return SchemaStatus(SchemaState.NEWER, detail)
            continue
        if name != migration.name:
            detail = f"{migration.label}: its version is recorded as {name!r}; rename the file"
            return SchemaStatus(SchemaState.CHANGED, detail)
        if checksum is None:
            adoptable.append(migration)
        elif checksum != migration.checksum:
            detail = f"{migration.label} was changed after it had been applied: put it back, add a new file"
            return SchemaStatus(SchemaState.CHANGED, detail)
        applied.append(migration)
    return _classify(known, applied, tuple(adoptable))


def _classify(
    known: Sequence[Migration], applied: Sequence[Migration], adoptable: tuple[Migration, ...]
) -> SchemaStatus:
    pending = tuple(migration for migration in known if migration not in applied)
    if not pending:
        return SchemaStatus(SchemaState.UP_TO_DATE, "the schema is up to date", adoptable=adoptable)
    newest = max((migration.version for migration in applied), default="")
    late = next((migration for migration in pending if migration.version < newest), None)
    if late is not None:
        detail = f"{late.label} is older than {newest}, which is applied: give it a later timestamp"
        return SchemaStatus(SchemaState.OUT_OF_ORDER, detail)
    names = ", ".join(migration.label for migration in pending)
    return SchemaStatus(SchemaState.PENDING, f"not applied yet: {names}", pending, adoptable)


async def require_current(connection: Connection) -> None:
    """Return when this code fits the schema.

    Raises:
        SchemaError: older, newer, changed or out of order; the sentence says what to do.
    """
    status = (await schema_status(connection)).refuse_misfit()
    if not status.ready:
        raise SchemaOlderThanCode(f"{status.detail}; run: python -m migrations")
