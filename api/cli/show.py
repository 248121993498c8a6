"""What commands print: a sentence or a table for people, or JSON for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api import replies

PIPED_COLUMNS = 200


def reply(answer: Any, sentence: str, *, as_json: bool) -> None:
    """Print an answer: as it is for programs, else the sentence."""
    if as_json:
        typer.echo(replies.dump(answer).decode())
    else:
        repeated = isinstance(answer, Mapping) and answer.get("replayed")
        typer.echo(f"{sentence} (Done before; nothing was changed now.)" if repeated else sentence)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows: one JSON object a line for programs, else these columns."""
    if as_json:
        for row in rows:
            typer.echo(replies.dump(row).decode())
        return
    drawn = Table(*(column.replace("_", " ") for column in columns), box=None, pad_edge=False)
    for row in rows:
        drawn.add_row(*(Text(cell(row[column]), overflow="fold") for column in columns))
    Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS, highlight=False).print(drawn)


def facts(pairs: Mapping[str, Any]) -> None:
    """Print names with their values, a line each."""
    widest = max(len(name) for name in pairs)
    for name, value in pairs.items():
        typer.echo(f"{name:<{widest}}  {cell(value)}")


def cell(value: Any) -> str:
    """A value as people read it."""
    match value:
        case None:
            return "-"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case dict() | list():
            return replies.dump(value).decode()
        case _:
            return str(value)
