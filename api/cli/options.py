"""Options that several commands have."""

from typing import Annotated, Any
from uuid import uuid4

import typer

from api.admin.fields import UserId
from api.cli.session import checked, whoever
from api.errors import InvalidIdempotencyKey
from api.idempotency import read_key


def _key(key: str | None) -> str | None:
    try:
        return read_key(key)
    except InvalidIdempotencyKey as error:
        msg = "a key has 1 to 255 visible ASCII characters"
        raise typer.BadParameter(msg) from error


def _someone(value: str | None) -> Any:
    return None if value is None else checked(UserId, value)


def or_fresh(value: str | None, name: str, *, prefix: str = "") -> str:
    """A key, or a fresh one: printed before anything is done, so that whoever never sees the outcome can repeat it."""
    if value is not None:
        return value
    fresh = f"{prefix}{uuid4()}"
    typer.echo(f"--{name} {fresh}", err=True)
    return fresh


User = Annotated[str, typer.Argument(metavar="USER", callback=_someone, help="the person's user id")]
OneUser = Annotated[str | None, typer.Option("--user", callback=_someone, help="one account only")]
Actor = Annotated[
    str, typer.Option(default_factory=whoever, callback=_someone, help="who does this; for the audit log")
]
Key = Annotated[
    str | None,
    typer.Option(callback=_key, show_default=False, help="once for each; by default a fresh one, printed"),
]
ToldReason = Annotated[str, typer.Option("--reason", help="why; the person reads it, and the audit log keeps it")]
OptionalReason = Annotated[str | None, typer.Option("--reason", help="why; for the audit log")]
AsJson = Annotated[bool, typer.Option("--json", help="the API's reply, for programs")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="how many at most, newest first")]
Moment = Annotated[str | None, typer.Option(metavar="TIME", help="such as 2027-01-31T00:00:00Z")]
