"""`twin balance`, `entries`, `operations` and `verify`: looking, without changing anything."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from api import lines, replies
from api.admin import operations as log
from api.admin.operations import OperationQuery
from api.bodies import Moment as AwareMoment
from api.cli import show
from api.cli.options import AsJson, Limit, Moment, OneUser, User
from api.cli.session import MISUSED, REFUSED, carry_out, checked, give_up, given
from shared import ledger
from shared.database import Connection
from shared.verify import Tally
from shared.verify import verify as verify_ledger


def balance(user: User, at: Moment = None, as_json: AsJson = False) -> None:
    """What a person has by the clock; with --at, what their books came to at that moment."""
    moment = checked(AwareMoment, at) if at is not None else None

    async def look(connection: Connection) -> dict[str, int]:
        if moment is not None:
            return asdict(await ledger.books_at(connection, user_id=user, at=moment))
        return asdict(await ledger.balance(connection, user_id=user))

    found = carry_out(look)
    if as_json:
        show.reply(found, "", as_json=True)
    else:
        show.facts(found)


def entries(user: User, limit: Limit = 20, as_json: AsJson = False) -> None:
    """A person's movements, newest first."""
    found, _ = carry_out(
        lambda connection: lines.newest(connection, user_id=user, wanted=lines.Wanted(), before=None, limit=limit)
    )
    show.table(found, ("seq", "at", "description", "amount", "balance", "held", "reason"), as_json=as_json)


def operations(
    scope: Annotated[str | None, typer.Option(help="a user id, or plans or prices")] = None,
    actor: Annotated[str | None, typer.Option(help="who did it")] = None,
    kind: Annotated[str | None, typer.Option(help="such as grant, adjust, reverse, set-terms, set-plan, price")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """The audit log, newest first: who did what, when and why."""
    query = checked(OperationQuery, given(scope=scope, actor=actor, kind=kind))
    found = carry_out(
        lambda connection: log.newest(connection, scope=query.scope, actor=query.actor, kind=query.kind, limit=limit)
    )
    show.table(found, ("at", "actor", "kind", "scope", "reason", "outcome", "key"), as_json=as_json)


def verify(
    user: OneUser = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="accounts with an entry since then only")] = None,
    as_json: AsJson = False,
) -> None:
    """Derive the whole ledger again from its entries; name every row that says otherwise, a line each. Exits 1 if any.

    The last line says how much was looked at.
    """
    moment = checked(AwareMoment, since) if since is not None else None
    tally, started = Tally(), time.monotonic()

    async def walk(connection: Connection) -> int:
        found = 0
        async for finding in verify_ledger(connection, user_id=user, since=moment, tally=tally):
            found += 1
            typer.echo(replies.dump(finding.as_json()).decode() if as_json else str(finding))
        return found

    found = carry_out(walk, transaction=False)
    if user is not None and not found and not tally.accounts:
        give_up(f"There is no account {user}.", MISUSED)
    seconds = time.monotonic() - started
    summary = {
        "findings": found,
        "accounts": tally.accounts,
        "entries": tally.entries,
        "seconds": round(seconds, 3),
        "entries_per_second": round(tally.entries / seconds),
    }
    sentence = (
        f"{found or 'No'} finding{'' if found == 1 else 's'}. {tally.accounts} accounts, {tally.entries} entries"
        f" in {seconds:.1f} s, {summary['entries_per_second']} entries/s."
    )
    show.reply(summary, sentence, as_json=as_json)
    if found:
        raise typer.Exit(REFUSED)
