"""Credits in and out from a terminal, who did it, and mistakes undone."""

import getpass
from uuid import uuid4

import pytest

from tests.cli.conftest import Desk

AT_SUPPORT = ("--reason", "Support case 4711", "--actor", "cli:maria")


def test_a_grant_is_given_once_and_says_who_did_it(twin: Desk, user: str) -> None:
    given = twin("grant", user, "40", "--source-ref", "welcome", "--actor", "cli:maria")
    assert given.stdout == f"40 promo credits for {user}, source-ref welcome; 40 available.\n"
    assert given.stderr == ""
    assert "Done before" in twin("grant", user, "40", "--source-ref", "welcome").stdout
    assert twin.available(user) == 40
    act = twin.last_act(user)
    assert (act["actor"], act["kind"], act["outcome"]["amount"]) == ("cli:maria", "grant", 40)
    assert "on other terms" in twin.refused("grant", user, "41", "--source-ref", "welcome")


def test_a_fresh_source_ref_is_printed_so_that_a_retry_can_name_it(twin: Desk, user: str) -> None:
    first = twin("grant", user, "5")
    option, source_ref = first.stderr.split()
    assert twin.read("grant", user, "5", option, source_ref)["replayed"] is True
    assert twin.available(user) == 5
    assert twin.last_act(user)["actor"] == f"cli:{getpass.getuser()}"


def test_a_purchase_keeps_what_was_paid(twin: Desk, user: str) -> None:
    bought = ("purchase", user, "100", "--source-ref", "stripe:pi_1", "--paid", "999", "--currency", "EUR")
    answer = twin.read(*bought)
    assert (answer["kind"], answer["paid_amount"], answer["paid_currency"]) == ("paid", 999, "EUR")
    assert twin.read(*bought)["replayed"] is True
    [paid] = twin.run(
        lambda c: c.fetch("SELECT paid_amount, paid_currency FROM credit_buckets WHERE user_id = $1", user)
    )
    assert tuple(paid) == (999, "EUR")
    assert "currency" in twin.refused(*bought[:-1], "eur", code=2)
    assert "paid_amount" in twin.refused(*bought[:-3], "-1", *bought[-2:], code=2)


def test_an_adjustment_up_and_down_once_for_each_key(twin: Desk, user: str) -> None:
    first = twin("adjust", user, "10", *AT_SUPPORT)
    assert first.stdout == f"+10 credits for {user}; 10 available.\n"
    option, key = first.stderr.split()
    assert twin.read("adjust", user, "10", option, key, *AT_SUPPORT)["replayed"] is True
    assert "used" in twin.refused("adjust", user, "11", option, key, *AT_SUPPORT)
    assert "another person" in twin.refused("adjust", f"{user}x", "10", option, key, *AT_SUPPORT)
    assert twin.read("adjust", user, "-4", *AT_SUPPORT)["balance"]["available"] == 6
    assert twin.refused("adjust", user, "-7", *AT_SUPPORT) == "only 6 credits can be taken"
    act = twin.last_act(user)
    assert (act["actor"], act["reason"], act["outcome"]["amount"]) == ("cli:maria", "Support case 4711", -4)


def test_a_wrong_grant_is_reversed_once(twin: Desk, user: str) -> None:
    twin("grant", user, "40", "--source-ref", "typo")
    twin.charge(user, 15)
    wrong = ("reverse", "grant", user, "--source-ref", "typo")
    taken = twin(*wrong, *AT_SUPPORT)
    assert taken.stdout == f"-25 credits for {user}; 0 available. 15 were spent and stay so.\n"
    assert twin.read(*wrong, *AT_SUPPORT)["replayed"] is True
    assert "reversed before" in twin.refused(*wrong, "--amount", "3", *AT_SUPPORT)
    assert "there is no paid grant" in twin.refused(*wrong, "--kind", "paid", *AT_SUPPORT)
    assert twin.last_act(user)["kind"] == "reverse"


def test_a_wrong_charge_is_given_back_once(twin: Desk, user: str) -> None:
    twin("grant", user, "40", "--source-ref", "start")
    generation_id = str(twin.charge(user, 15))
    assert "was charged 15" in twin.refused("reverse", "charge", generation_id, "--amount", "16", *AT_SUPPORT)
    assert twin.read("reverse", "charge", generation_id, *AT_SUPPORT)["amount"] == 15
    assert twin.read("reverse", "charge", generation_id, *AT_SUPPORT)["replayed"] is True
    assert twin.available(user) == 40
    assert "no generation" in twin.refused("reverse", "charge", str(uuid4()), *AT_SUPPORT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("grant", "USER", "0"), "amount"),
        (("grant", "USER", "1.5"), "valid integer"),
        (("grant", "USER", "1000000001"), "amount"),
        (("grant", "USER", "9" * 30), "amount"),
        (("grant", "USER", "5", "--kind", "daily"), "kind"),
        (("grant", "USER", "5", "--expires-at", "tomorrow"), "expires_at"),
        (("grant", "USER", "5", "--expires-at", "2999-01-01"), "expires_at"),
        (("grant", "USER", "5", "--source-ref", "a b"), "source_ref"),
        (("grant", "USER", "5", "--actor", ""), "String should"),
        (("grant", "a\nb", "5"), "String should"),
        (("purchase", "USER", "5", "--source-ref", "s", "--paid", "1"), "--currency"),
        (("adjust", "USER", "5"), "--reason"),
        (("adjust", "USER", "0", *AT_SUPPORT), "amount"),
        (("adjust", "USER", "-1", "--expires-at", "2999-01-01T00:00:00Z", *AT_SUPPORT), "expires_at"),
        (("adjust", "USER", "1", "--reason", " "), "reason"),
        (("adjust", "USER", "1", "--reason", "\x1b[2J"), "reason"),
        (("adjust", "USER", "1", "--key", "a b", *AT_SUPPORT), "visible ASCII"),
        (("adjust", "USER", "1", "--key", "", *AT_SUPPORT), "visible ASCII"),
        (("adjust", "USER", "1", "--raeson", "typo", *AT_SUPPORT), "unexpected extra argument"),
        (("reverse", "charge", "not-an-id", *AT_SUPPORT), "generation_id"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_said_and_not_done(twin: Desk, user: str, arguments: tuple[str, ...], said: str) -> None:
    sentence = twin.refused(*(user if argument == "USER" else argument for argument in arguments), code=2)
    assert said in sentence
    assert twin.run(lambda c: c.fetchval("SELECT count(*) FROM user_billing WHERE user_id = $1", user)) == 0


def test_credits_that_would_have_ended_are_refused(twin: Desk, user: str) -> None:
    assert "not expired" in twin.refused("grant", user, "5", "--expires-at", "2020-01-01T00:00:00Z")
