"""`twin person`, `twin plan` and `twin price`: on which terms people have credits, and what these buy."""

from collections.abc import Sequence
from typing import Annotated

import typer

from api.admin import people, plans, prices
from api.admin.people import TermsBody
from api.admin.plans import PlanBody, PlanName
from api.admin.prices import PriceBody
from api.cli import show
from api.cli.options import Actor, AsJson, Key, Limit, Moment, OptionalReason, User, or_fresh
from api.cli.session import carry_out, checked, given
from shared.generations import Type

Policy = Annotated[str | None, typer.Option(help="hard never lends, soft up to the overdraft limit, off without limit")]
OverdraftLimit = Annotated[int | None, typer.Option(help="credits")]
Threshold = Annotated[int | None, typer.Option(help="credits; with less left, a person is warned")]

person = typer.Typer(help="What one person has, and on which terms.", no_args_is_help=True)
plan = typer.Typer(help="What everybody on a plan has.", no_args_is_help=True)
price = typer.Typer(help="The price list.", no_args_is_help=True)


@person.command("show")
def show_person(user: User, as_json: AsJson = False) -> None:
    """What somebody has, on which terms, and the last acts about them."""
    found = carry_out(lambda connection: people.look(connection, user))
    if as_json:
        show.reply(found, "", as_json=True)
        return
    own, of_plan = found["terms"], found["plan"]
    counts = {
        name: f"{own[name]} (the plan's: {of_plan[name]})" if own[name] is not None else f"{of_plan[name]} (the plan's)"
        for name in ("policy", "overdraft_limit", "low_balance_threshold")
    }
    daily = found["next_daily"]
    show.facts(
        {
            "person": user,
            "plan": own["plan"],
            **counts,
            "time_zone": own["time_zone"],
            **{name: found["balance"][name] for name in ("available", "held", "posted", "overdraft_used")},
            "next_daily": f"{daily['credits']} at {show.cell(daily['at'])} UTC" if daily is not None else None,
        }
    )
    show.table(found["operations"], ("at", "actor", "kind", "reason", "outcome"), as_json=False)


@person.command("set")
def set_person(
    user: User,
    actor: Actor,
    plan: Annotated[str | None, typer.Option(help="the name of a plan")] = None,
    policy: Policy = None,
    overdraft_limit: OverdraftLimit = None,
    low_balance_threshold: Threshold = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="the plan's again: policy, overdraft_limit or low_balance_threshold; may be repeated"),
    ] = None,
    reason: OptionalReason = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Change somebody's terms. Undo: set what the outcome says was before."""
    named = given(
        plan=plan,
        policy=policy,
        overdraft_limit=overdraft_limit,
        low_balance_threshold=low_balance_threshold,
        reason=reason,
    )
    body = checked(TermsBody, {**dict.fromkeys(clear or []), **named})
    key = or_fresh(key, "key")
    answer = carry_out(lambda connection: people.set_terms(connection, user, body, key=key, actor=actor))
    show.reply(answer, f"{user}: {show.outcome(answer)}.", as_json=as_json)


@plan.command("list")
def list_plans(as_json: AsJson = False) -> None:
    """All plans, by name."""
    found = carry_out(plans.listed)["data"]
    columns = ("plan", "daily_credits", "policy", "overdraft_limit", "low_balance_threshold", "weight", "max_in_flight")
    show.table(found, columns, as_json=as_json)


@plan.command("set")
def set_plan(
    name: Annotated[str, typer.Argument(metavar="PLAN")],
    actor: Actor,
    daily_credits: Annotated[int | None, typer.Option(help="given once for each local day on which one comes")] = None,
    policy: Policy = None,
    overdraft_limit: OverdraftLimit = None,
    low_balance_threshold: Threshold = None,
    weight: Annotated[int | None, typer.Option(help="share of the workers beside other plans")] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(help="generations of one person on their way at once; 0: any number")
    ] = None,
    reason: OptionalReason = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a plan, or change what everybody on it has. Undo: set what the outcome says was before."""
    named = given(
        daily_credits=daily_credits,
        policy=policy,
        overdraft_limit=overdraft_limit,
        low_balance_threshold=low_balance_threshold,
        weight=weight,
        max_in_flight=max_in_flight,
        reason=reason,
    )
    if max_in_flight == 0:
        named["max_in_flight"] = None
    body = checked(PlanBody, named)
    chosen = checked(PlanName, name)
    key = or_fresh(key, "key")
    answer = carry_out(lambda connection: plans.change(connection, chosen, body, key=key, actor=actor))
    show.reply(answer, f"{name}: {show.outcome(answer)}.", as_json=as_json)


@price.command("list")
def list_prices(limit: Limit = 20, as_json: AsJson = False) -> None:
    """Every version there ever was, newest first; the one in force has begun and has not ended."""
    found = carry_out(lambda connection: prices.listed(connection, limit=limit))
    columns = (
        "version",
        "type",
        "endpoint",
        "unit_credits",
        "batch_multipliers",
        "surcharges",
        "withdrawn",
        "effective_at",
    )
    show.table(found, (*columns, "ends_at", "created_by", "note"), as_json=as_json)


@price.command("add")
def add_price(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help=", ".join(Type))],
    unit_credits: Annotated[int, typer.Argument(metavar="CREDITS", help="for each output")],
    actor: Actor,
    endpoint: Annotated[str | None, typer.Option(help="when sent there and nowhere else")] = None,
    tier: Annotated[list[str] | None, typer.Option(metavar="BATCH:PERMILLE", help="4:900 is 10 % off from 4")] = None,
    surcharge: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT:INCLUDED:STEP:CREDITS", help="steps:20:10:1; steps, pixels, seconds"),
    ] = None,
    effective_at: Moment = None,
    note: Annotated[str | None, typer.Option(help="why; for the price list's history")] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Add a version of a price; none is ever edited. Undo: add the one that was right, or withdraw an endpoint's."""
    body = given(
        type=type_,
        endpoint=endpoint,
        unit_credits=unit_credits,
        batch_multipliers=[_parts(text, ("min_batch", "multiplier_permille")) for text in tier or []],
        surcharges=[_parts(text, ("parameter", "included", "step", "credits")) for text in surcharge or []],
        effective_at=effective_at,
        note=note,
    )
    _add(body, f"{type_} at {unit_credits}", key=key, actor=actor, as_json=as_json)


@price.command("withdraw")
def withdraw_price(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help=", ".join(Type))],
    endpoint: Annotated[str, typer.Argument(help="whose own price ends")],
    actor: Actor,
    effective_at: Moment = None,
    note: Annotated[str | None, typer.Option(help="why; for the price list's history")] = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take the price of one endpoint off the list: it cannot be asked for any more. Undo: add its price again."""
    body = given(type=type_, endpoint=endpoint, withdrawn=True, unit_credits=0, effective_at=effective_at, note=note)
    _add(body, f"{type_} at endpoint {endpoint} is withdrawn", key=key, actor=actor, as_json=as_json)


def _add(body: dict[str, object], what: str, *, key: str | None, actor: str, as_json: bool) -> None:
    added = checked(PriceBody, body)
    key = or_fresh(key, "key")
    answer = carry_out(lambda connection: prices.add(connection, added, key=key, actor=actor))
    show.reply(
        answer, f"Version {answer['version']}: {what}, from {show.cell(answer['effective_at'])} UTC.", as_json=as_json
    )


def _parts(text: str, names: Sequence[str]) -> dict[str, object]:
    values = text.split(":")
    if len(values) != len(names):
        msg = f"{text!r} is not {':'.join(names)}"
        raise typer.BadParameter(msg)
    return {name: int(value) if value.isdecimal() else value for name, value in zip(names, values, strict=True)}
