"""`twin grant`, `purchase`, `adjust` and `reverse`: credits in and out, and mistakes put right."""

from typing import Annotated

import typer

from api.admin import corrections, grants
from api.admin.corrections import AdjustmentBody, ReversalBody, ReversalReply
from api.admin.grants import GrantBody
from api.cli import show
from api.cli.options import Actor, AsJson, Key, Moment, ToldReason, User, or_fresh
from api.cli.session import carry_out, checked, given

Amount = Annotated[int, typer.Argument(help="whole credits")]
Priority = Annotated[int | None, typer.Option(help="lower is spent first; 100 by default")]
PartOfIt = Annotated[int | None, typer.Option(help="that much of it; all by default")]

reversing = typer.Typer(help="Reverse a grant or a charge, once.", no_args_is_help=True)


def grant(
    user: User,
    amount: Amount,
    actor: Actor,
    kind: Annotated[str, typer.Option(help="promo, plan or paid")] = "promo",
    source_ref: Annotated[
        str | None, typer.Option(help="granted once for each; by default a fresh one, printed")
    ] = None,
    effective_at: Moment = None,
    expires_at: Moment = None,
    priority: Priority = None,
    as_json: AsJson = False,
) -> None:
    """Give a person credits, once for each --source-ref. Undo: twin reverse grant."""
    body = given(
        user_id=user,
        amount=amount,
        kind=kind,
        source_ref=or_fresh(source_ref, "source-ref", prefix="cli:"),
        effective_at=effective_at,
        expires_at=expires_at,
        priority=priority,
    )
    _give(checked(GrantBody, body), actor=actor, as_json=as_json)


def purchase(
    user: User,
    amount: Amount,
    actor: Actor,
    source_ref: Annotated[str, typer.Option(help="the payment's id; granted once for each")],
    paid: Annotated[int, typer.Option(help="in the currency's smallest unit: 999 is 9.99 EUR")],
    currency: Annotated[str, typer.Option(help="ISO 4217, such as EUR")],
    expires_at: Moment = None,
    priority: Priority = None,
    as_json: AsJson = False,
) -> None:
    """Record that a person bought credits, once for each --source-ref. Undo: twin reverse grant --kind paid."""
    body = given(
        user_id=user,
        amount=amount,
        kind="paid",
        source_ref=source_ref,
        paid_amount=paid,
        paid_currency=currency,
        expires_at=expires_at,
        priority=priority,
    )
    _give(checked(GrantBody, body), actor=actor, as_json=as_json)


def _give(body: GrantBody, *, actor: str, as_json: bool) -> None:
    answer = carry_out(lambda connection: grants.give(connection, body, actor=actor))
    what = f"{answer['amount']} {answer['kind']} credits for {answer['user_id']}"
    left = answer["balance"]["available"]
    show.reply(answer, f"{what}, source-ref {answer['source_ref']}; {left} available.", as_json=as_json)


def adjust(
    user: User,
    amount: Annotated[int, typer.Argument(help="credits to give, or below 0 to take")],
    reason: ToldReason,
    actor: Actor,
    key: Key = None,
    expires_at: Moment = None,
    as_json: AsJson = False,
) -> None:
    """Put right what a person has, once for each --key. Undo: adjust by the opposite amount."""
    body = checked(AdjustmentBody, given(user_id=user, amount=amount, reason=reason, expires_at=expires_at))
    key = or_fresh(key, "key")
    answer = carry_out(lambda connection: corrections.adjust(connection, body, key=key, actor=actor))
    left = answer["balance"]["available"]
    show.reply(answer, f"{answer['amount']:+} credits for {user}; {left} available.", as_json=as_json)


@reversing.command("grant")
def reverse_grant(
    user: User,
    source_ref: Annotated[str, typer.Option(help="as it was granted")],
    reason: ToldReason,
    actor: Actor,
    kind: Annotated[str, typer.Option(help="daily, promo, adjust, plan or paid")] = "promo",
    amount: PartOfIt = None,
    as_json: AsJson = False,
) -> None:
    """Take back what is left of a grant; what was spent stays spent."""
    body = given(user_id=user, kind=kind, source_ref=source_ref, amount=amount, reason=reason)
    _reverse(checked(ReversalBody, body), actor=actor, as_json=as_json)


@reversing.command("charge")
def reverse_charge(
    generation_id: Annotated[str, typer.Argument(metavar="GENERATION", help="the generation's id")],
    reason: ToldReason,
    actor: Actor,
    amount: PartOfIt = None,
    as_json: AsJson = False,
) -> None:
    """Give back what a generation was charged."""
    body = given(generation_id=generation_id, amount=amount, reason=reason)
    _reverse(checked(ReversalBody, body), actor=actor, as_json=as_json)


def _reverse(body: ReversalBody, *, actor: str, as_json: bool) -> None:
    answer: ReversalReply = carry_out(lambda connection: corrections.reverse(connection, body, actor=actor))
    sentence = f"{answer['amount']:+} credits for {answer['user_id']}; {answer['balance']['available']} available."
    if answer["spent"]:
        sentence += f" {answer['spent']} were spent and stay so."
    show.reply(answer, sentence, as_json=as_json)
