"""Run the tests against each mutant and say which test misses the guard; exit 1 when one survives.

`python -m tests.mutants [part of a name …]`; JOBS at a time. The test that killed a mutant last time (`killers.tsv`) is
asked first, and all of them when it does not any more. A run that stops for another reason than a failed test (the
template could not be made, nothing was collected) is BROKEN, which counts as survived.
"""

import asyncio
import os
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import asyncpg

from migrations.runner import migrate
from tests.local import postgres
from tests.mutants import killers
from tests.mutants.catalogue import every_mutant
from tests.mutants.mutant import CHOSEN, Mutant

LEDGER = Path("tests/ledger")
# Where the guard is most likely missed, by what its mutants are called.
LIKELY = {
    "prices_add: wait for ever": "api/test_prices.py",
    "wait for ever": "ledger/test_statements.py",
    "access_": "rls/test_decisions.py",
    "whole entries": "rls/test_people.py",
    "price_versions": "shared/test_price_chain.py",
    "queue": "shared/test_price_chain.py",
    "price_": "shared/test_pricing.py",
    "prices_": "shared/test_pricing.py",
    "generation_": "shared/test_generation_rules.py",
    "generations_": "shared/test_generation_rules.py",
    "key_adjusts_one": "ledger/test_keys.py",
    "idempotency_keys": "shared/test_generation_rules.py",
    "check_": "ledger/test_rules.py",
    "grant:": "ledger/test_purchases.py",
    "append_only": "ledger/test_tampering.py",
    "without ": "ledger/test_rules.py",
    "daily": "ledger/test_daily.py",
    "midnight": "ledger/test_daily.py",
    "time_zone": "ledger/test_daily.py",
    "calm": "ledger/test_warnings.py",
    "threshold:": "ledger/test_warnings.py",
    "warn:": "ledger/test_warnings.py",
    "adjust": "ledger/test_corrections.py",
    "reverse": "ledger/test_corrections.py",
    "set_": "ledger/test_terms.py",
    "_at:": "ledger/test_looking_back.py",
    "expire:": "ledger/test_time.py",
    "tidy": "ledger/test_time.py",
    "expire_due": "ledger/test_sweep.py",
}
# The quick ones find most; the last find what only many orders of events show.
FIRST = [
    "test_operations.py",
    "test_keys.py",
    "test_decisions.py",
    "test_time.py",
    "test_corrections.py",
    "test_terms.py",
]
LAST = ["test_tampering.py", "test_bad_days.py", "test_cancellation.py", "test_machine.py", "test_interleavings.py"]
# A test that hangs has missed the guard, too.
TIMEOUT_SECONDS = 120
NONE = "no mutant"
SURVIVED = "SURVIVED"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::[^\n]*?)(?: - |$)", re.MULTILINE)


class Verdict(NamedTuple):
    """How one mutant fared."""

    mutant: str
    said: str
    killed: bool
    seconds: float


def order(mutant: str) -> list[str]:
    """The test files, the likely killers first."""
    likely = [f"tests/{name}" for word, name in LIKELY.items() if word in mutant]
    others = sorted(path.name for path in LEDGER.glob("test_*.py") if path.name not in {*FIRST, *LAST})
    return list(dict.fromkeys([*likely, *(str(LEDGER / name) for name in [*FIRST, *others, *LAST])]))


async def judge(mutant: str, server_url: str, killer: str | None) -> Verdict:
    """Ask the test that is known to miss the guard, if one is, then all of them."""
    verdict = await judge_by([f"tests/{killer}"], mutant, server_url) if killer else None
    return verdict if verdict and verdict.killed else await judge_by(order(mutant), mutant, server_url)


async def judge_by(tests: list[str], mutant: str, server_url: str) -> Verdict:
    """Run these tests with this mutant in the template."""
    began = time.monotonic()
    arguments = ["-x", "-q", "-rfE", "--tb=no", "--no-header", f"--timeout={TIMEOUT_SECONDS}", *tests]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pytest",
        *arguments,
        env={
            **os.environ,
            CHOSEN: "" if mutant == NONE else mutant,
            "TWIN_TEST_DATABASE_URL": server_url,
            "COLUMNS": "500",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output = (await process.communicate())[0].decode(errors="replace")
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    seconds = time.monotonic() - began
    failed = _FAILED.findall(output)
    if process.returncode == 0:
        return Verdict(mutant, SURVIVED, killed=False, seconds=seconds)
    if process.returncode != 1 or not failed:
        return Verdict(mutant, f"BROKEN: {output[-1000:]}", killed=False, seconds=seconds)
    return Verdict(mutant, failed[0].removeprefix("tests/"), killed=True, seconds=seconds)


async def judge_all(names: list[str], server_url: str, jobs: int) -> list[Verdict]:
    """So many at a time, each said as soon as it is known."""
    left = iter(names)
    known = killers.read()
    verdicts = []

    async def lane() -> None:
        for name in left:
            verdict = await judge(name, server_url, known.get(name))
            verdicts.append(verdict)
            if verdict.killed:
                killers.keep({**killers.read(), name: verdict.said})
            print(f"{verdict.seconds:5.1f} s  {name:<60} {verdict.said}", flush=True)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(jobs):
            lanes.create_task(lane())
    return verdicts


async def catalogue(server_url: str) -> dict[str, Mutant]:
    """All mutants; some are read off the migrated database."""
    connection = await asyncpg.connect(server_url)
    try:
        await migrate(connection)
        return await every_mutant(connection)
    finally:
        await connection.close()


def main(parts: list[str]) -> int:
    """Judge the mutants whose names contain one of the parts, or all; and that the tests pass without one."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"twin-tests-{os.getpid()}-") as folder:
        cluster = postgres.Cluster(Path(folder) / "postgres", postgres.embedded(), secrets.token_hex(16))
        server = postgres.run(cluster, postgres.THROWAWAY)
        try:
            every = asyncio.run(catalogue(server.url))
            names = [name for name in every if not parts or any(part in name for part in parts)]
            verdicts = asyncio.run(judge_all([*names, NONE], server.url, int(os.environ.get("JOBS", "2"))))
        finally:
            server.stop()
    mutants = [verdict for verdict in verdicts if verdict.mutant != NONE]
    killers.keep({name: test for name, test in killers.read().items() if name in every})
    survivors = [verdict for verdict in mutants if not verdict.killed]
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} killed in {time.monotonic() - began:.0f} s")
    print("".join(f"not killed: {verdict.mutant}: {verdict.said}\n" for verdict in survivors), end="")
    sound = [verdict.said for verdict in verdicts if verdict.mutant == NONE] == [SURVIVED]
    if not sound:
        print("The tests do not pass without a mutant: nothing was proved.")
    return 0 if sound and not survivors else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
