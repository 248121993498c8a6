"""`twin dead-letters` and `retry`: what failed, and trying it again."""

from typing import Annotated
from uuid import UUID

import typer

from api import dead_letters as letters
from api import retries
from api.cli import show
from api.cli.options import Actor, AsJson, Limit
from api.cli.session import carry_out, checked, given
from api.dead_letters import DeadLetterFilter


def dead_letters(
    code: Annotated[str | None, typer.Option(help="why it failed, such as model-failed")] = None,
    endpoint: Annotated[str | None, typer.Option(help="where it was sent last")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="text, image, modify or video")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="failed then or later")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """What failed and was refunded, newest first; with --json every attempt and what RunPod said last, too."""
    wanted = checked(DeadLetterFilter, given(code=code, endpoint=endpoint, type=kind, since=since))
    found = carry_out(lambda connection: letters.newest(connection, wanted, limit=limit))
    columns = ("failed_at", "id", "user_id", "type", "endpoint", "code", "submissions", "retries", "reason")
    show.table(found, columns, as_json=as_json)


def retry(
    generation: Annotated[UUID, typer.Argument(metavar="ID", help="a generation that failed or was cancelled")],
    actor: Actor,
    as_json: AsJson = False,
) -> None:
    """Try a generation again, for the credits that were agreed; the workers find it within seconds."""
    begun = carry_out(lambda connection: retries.begin(connection, generation, retried_by=actor))
    answer = {"id": generation, "retries": begun.generation.retries, "held": begun.generation.quoted}
    show.reply(answer, f"{generation} is on its way again; {answer['held']} credits are held for it.", as_json=as_json)
