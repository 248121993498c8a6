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
        words = (outcome(row[column]) if column == "outcome" else cell(row[column]) for column in columns)
        drawn.add_row(*(Text(word, overflow="fold") for word in words))
    Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS, highlight=False).print(drawn)


def facts(pairs: Mapping[str, Any]) -> None:
    """Print names with their values, a line each."""
    widest = max(len(name) for name in pairs)
    for name, value in pairs.items():
        typer.echo(f"{name:<{widest}}  {cell(value)}")


def outcome(answered: Mapping[str, object]) -> str:
    """What an act came to, in short: an amount, or what was and what is."""
    before, after = answered.get("before"), answered.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return changes(before, after)
    if after is not None:
        return "made" if before is None else f"{cell(before)} -> {cell(after)}"
    if isinstance(amount := answered.get("amount"), int):
        return f"{amount:+}"
    return cell(answered)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What is different."""
    names = [name for name in after if before[name] != after[name]]
    return ", ".join(f"{name} {cell(before[name])} -> {cell(after[name])}" for name in names) or "nothing changed"


def cell(value: Any) -> str:
    """A value as people read it."""
    match value:
        case None:
            return "-"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S")
        case Mapping() | list():
            return replies.dump(value).decode()
        case _:
            return str(value)
