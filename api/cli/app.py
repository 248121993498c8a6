"""The commands of `twin` in one list."""

import typer

from api.cli import books, letters, money, terms, weather

_NEGATIVE_AMOUNTS = {"ignore_unknown_options": True}
"""For the command that takes an amount below 0, which looks like an option."""

app = typer.Typer(
    name="twin",
    help=(
        "Operate Social Twin: credits, terms, prices, what failed and the books. Needs DATABASE_URL and nothing else; "
        "weather, which is for the local RunPod of `make run`, not even that. "
        "Exit codes: 0 done; 1 refused, or something wrong was found; 2 bad usage or configuration; "
        "3 Postgres cannot be reached."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(money.grant)
app.command()(money.purchase)
app.command(context_settings=_NEGATIVE_AMOUNTS)(money.adjust)
app.add_typer(money.reversing, name="reverse")
app.add_typer(terms.person, name="person")
app.add_typer(terms.plan, name="plan")
app.add_typer(terms.price, name="price")
app.command("dead-letters")(letters.dead_letters)
app.command()(letters.retry)
app.command()(books.operations)
app.command()(books.balance)
app.command()(books.entries)
app.command()(books.verify)
app.command()(weather.weather)


def main() -> None:
    """Run `twin`."""
    app(prog_name="twin")
