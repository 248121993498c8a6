"""Looking from a terminal, and the verification that names what was tampered with."""

from datetime import UTC, datetime

import pytest

from shared.database import Connection
from tests.cli.conftest import Desk


def test_a_balance_now_and_then(twin: Desk, user: str) -> None:
    before = datetime.now(UTC).isoformat()
    twin("grant", user, "40", "--source-ref", "s")
    assert twin.read("balance", user)["available"] == 40
    assert "available        40" in twin("balance", user).stdout
    assert twin.read("balance", user, "--at", before)["posted"] == 0
    assert twin.read("balance", user, "--at", "2999-01-01T00:00:00Z")["posted"] == 40
    assert "timezone" in twin.refused("balance", user, "--at", "2026-01-01T00:00:00", code=2)


def test_entries_newest_first(twin: Desk, user: str) -> None:
    twin("grant", user, "40", "--source-ref", "s")
    twin("adjust", user, "-3", "--reason", "counted twice")
    assert [entry["amount"] for entry in twin.read("entries", user)] == [-3, 40]
    assert twin.read("entries", user, "--limit", "1")["reason"] == "counted twice"
    assert "counted twice" in twin("entries", user).stdout


def test_the_log_by_what_and_by_whom(twin: Desk, user: str) -> None:
    twin("grant", user, "40", "--source-ref", "s", "--actor", f"cli:{user}")
    twin("adjust", user, "-3", "--reason", "counted [red]twice[/red]", "--actor", f"cli:{user}")
    twin("adjust", user, "-1", "--reason", "once more", "--actor", "cli:maria")
    found = twin.read("operations", "--scope", user, "--actor", f"cli:{user}")
    assert [act["kind"] for act in found] == ["adjust", "grant"]
    assert "counted [red]twice[/red]" in twin("operations", "--scope", user, "--kind", "adjust").stdout
    assert " -3 " in twin("operations", "--scope", user).stdout
    assert "kind" in twin.refused("operations", "--kind", "reserve", code=2)


def test_a_ledger_that_is_right_and_one_that_is_not(twin: Desk, user: str) -> None:
    twin("grant", user, "40", "--source-ref", "s")
    for arguments in ((), ("--user", user), ("--since", "2020-01-01T00:00:00Z")):
        assert twin("verify", *arguments).stdout.startswith("No findings. "), arguments
    summary = twin.read("verify", "--user", user)
    assert (summary["findings"], summary["accounts"], summary["entries"]) == (0, 1, 1)

    async def forge(connection: Connection) -> None:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("UPDATE user_billing SET posted = posted + 1 WHERE user_id = $1", user)

    async def mend(connection: Connection) -> None:
        await connection.execute("UPDATE user_billing SET posted = posted - 1 WHERE user_id = $1", user)

    twin.run(forge)
    try:
        named, last = twin("verify", "--user", user, code=1).stdout.splitlines()
        assert named.startswith(f"user_billing {user}: ")
        assert last.startswith("1 finding. 1 accounts, 1 entries in ")
        assert '"account-differs"' in twin("verify", "--json", code=1).stdout
    finally:
        twin.run(mend)


@pytest.mark.parametrize("arguments", [("--user", "nobody"), ("--since", "yesterday"), ("--user", ""), ("--all",)])
def test_verify_says_when_it_was_asked_for_nothing(twin: Desk, arguments: tuple[str, ...]) -> None:
    twin.refused("verify", *arguments, code=2)
