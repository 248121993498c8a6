"""People, plans and prices from a terminal."""

from uuid import uuid4

import pytest

from tests.cli.conftest import Desk


def test_a_wrong_plan_is_seen_and_set_back(twin: Desk, user: str) -> None:
    name = f"pro-{uuid4().hex[:8]}"
    assert twin("plan", "set", name, "--daily-credits", "30", "--reason", "launch").stdout == f"{name}: made.\n"
    twin("grant", user, "3", "--source-ref", "s")
    changed = twin("person", "set", user, "--plan", name, "--policy", "hard", "--reason", "upgrade")
    assert changed.stdout == f"{user}: plan free -> {name}, policy - -> hard.\n"
    shown = twin("person", "show", user).stdout
    for word in (user, name, "hard (the plan's: soft)", "30 at 2", "upgrade", "set-terms", "plan free -> "):
        assert word in shown
    back = twin("person", "set", user, "--plan", "free", "--clear", "policy")
    assert f"plan {name} -> free, policy hard -> -" in back.stdout
    assert twin.read("person", "show", user)["terms"]["policy"] is None


def test_a_change_happens_once_for_each_key(twin: Desk, user: str) -> None:
    first = twin("person", "set", user, "--overdraft-limit", "5")
    option, key = first.stderr.split()
    assert twin.read("person", "set", user, "--overdraft-limit", "5", option, key)["replayed"] is True
    assert "used" in twin.refused("person", "set", user, "--overdraft-limit", "6", option, key)


def test_plans_are_listed_and_changed(twin: Desk) -> None:
    name = f"team-{uuid4().hex[:8]}"
    twin("plan", "set", name)
    changed = twin("plan", "set", name, "--weight", "3", "--low-balance-threshold", "1", "--actor", "cli:maria").stdout
    assert "weight 1 -> 3" in changed
    assert "low_balance_threshold 10 -> 1" in changed
    assert name in twin("plan", "list").stdout
    assert {"free", name} <= {plan["plan"] for plan in twin.read("plan", "list")}
    assert twin.last_act("plans")["actor"] == "cli:maria"
    assert "max_in_flight - -> 5" in twin("plan", "set", name, "--max-in-flight", "5").stdout
    assert "max_in_flight 5 -> -" in twin("plan", "set", name, "--max-in-flight", "0").stdout


def test_the_price_of_an_endpoint_is_withdrawn(twin: Desk) -> None:
    twin("price", "add", "image", "0", "--endpoint", "tpyo")
    assert (
        "image at endpoint tpyo is withdrawn" in twin("price", "withdraw", "image", "tpyo", "--note", "a slip").stdout
    )
    [newest] = [twin.read("price", "list", "--limit", "1")]
    assert (newest["endpoint"], newest["withdrawn"], newest["note"]) == ("tpyo", True, "a slip")


def test_a_price_is_added_and_never_edited(twin: Desk) -> None:
    wanted = ("price", "add", "image", "6", "--tier", "4:900", "--surcharge", "steps:20:10:1", "--note", "summer")
    first = twin(*wanted, "--actor", "cli:maria")
    option, key = first.stderr.split()
    assert first.stdout.startswith("Version ")
    assert twin.read(*wanted, option, key)["replayed"] is True
    assert "used before" in twin.refused("price", "add", "image", "7", option, key)
    [newest] = [twin.read("price", "list", "--limit", "1")]
    assert (newest["unit_credits"], newest["created_by"], newest["note"]) == (6, "cli:maria", "summer")
    assert newest["batch_multipliers"] == [{"min_batch": 4, "multiplier_permille": 900}]
    assert newest["surcharges"] == [{"parameter": "steps", "included": 20, "step": 10, "credits": 1}]
    assert "summer" in twin("price", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("person", "show", "nobody"), "Nobody of this id", 1),
        (("person", "set", "nobody", "--plan", "no-such"), "there is no plan no-such", 1),
        (("person", "set", "nobody"), "name at least one", 2),
        (("person", "set", "nobody", "--policy", "gift"), "policy", 2),
        (("person", "set", "nobody", "--overdraft-limit", "-1"), "overdraft_limit", 2),
        (("person", "set", "nobody", "--clear", "plan"), "plan", 2),
        (("person", "set", "nobody", "--clear", "time_zone"), "time_zone", 2),
        (("plan", "set", "a b"), "String should", 2),
        (("plan", "set", "free", "--weight", "0"), "weight", 2),
        (("price", "add", "smell", "5"), "type", 2),
        (("price", "add", "image", "-5"), "No such option", 2),
        (("price", "add", "image", "5", "--tier", "4"), "min_batch:multiplier_permille", 2),
        (("price", "add", "image", "5", "--tier", "4:many"), "batch_multipliers", 2),
        (("price", "add", "text", "5", "--surcharge", "seconds:1:1:1"), "surcharges", 2),
        (("price", "add", "image", "5", "--effective-at", "2020-01-01T00:00:00Z"), "past", 1),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_said(twin: Desk, arguments: tuple[str, ...], said: str, code: int) -> None:
    assert said in twin.refused(*arguments, code=code)
    assert "nobody" not in str(twin.read("operations"))
