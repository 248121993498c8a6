"""Every benchmark runs and reports, with counts that say nothing about speed."""

import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from tests.bench import options, pgbench
from tests.bench.fairness.measure import Size
from tests.bench.fairness.measure import measure as measure_fairness
from tests.bench.fairness.measure import report as fairness_report
from tests.bench.figures import Spread, percentile, ratios
from tests.bench.ground import open_ground
from tests.bench.inflight.flight import TakeOver
from tests.bench.inflight.measure import measure as measure_inflight
from tests.bench.inflight.options import PHASES
from tests.bench.inflight.options import QUICK as INFLIGHT_QUICK
from tests.bench.inflight.options import from_arguments as inflight_options
from tests.bench.inflight.phases import taken_over
from tests.bench.inflight.report import report as inflight_report
from tests.bench.ledger import history, pgledger
from tests.bench.ledger.measure import measure as measure_ledger
from tests.bench.ledger.options import QUICK as LEDGER_QUICK
from tests.bench.ledger.report import report as ledger_report
from tests.bench.measure import measure
from tests.bench.report import report
from tests.ledger.invariants import assert_ledger_clean
from tests.local.databases import Databases, wait_for

# What is used of pgledger, so that its own SQL need not be here.
_LIKE_PGLEDGER = """
CREATE TABLE pgledger_accounts (
    id text PRIMARY KEY, name text, currency text, balance numeric, allow_negative_balance boolean,
    allow_positive_balance boolean, created_at timestamptz, updated_at timestamptz,
    CHECK (allow_negative_balance OR balance >= 0)
);
CREATE FUNCTION pgledger_create_transfer(from_id text, to_id text, amount numeric) RETURNS SETOF pgledger_accounts
LANGUAGE sql AS $$
    UPDATE pgledger_accounts SET balance = balance - amount WHERE id = from_id;
    UPDATE pgledger_accounts SET balance = balance + amount WHERE id = to_id RETURNING *
$$;
"""

# A history that takes hours to write.
_FOR_HOURS = """
from tests.bench.ground import open_ground
from tests.bench.ledger import history
from tests.bench.run import run

def measure(folder, say):
    with open_ground(folder) as ground:
        say("it begins")
        history.build(ground.databases, entries=100_000_000)

run("a history", measure=measure, report=str, json=None)
"""


def test_everything_is_measured_and_reported(tmp_path: Path) -> None:
    tiny = options.Options(
        people=2,
        count=6,
        rounds=1,
        warm_up=2,
        calm=2,
        connections=(2,),
        ledger_seconds=1,
        ledger_rounds=1,
        profile=True,
        json=None,
    )
    said: list[str] = []
    measured = measure(tiny, tmp_path, say=said.append)
    rounds = (*measured.ours, *measured.bare, *measured.inside, measured.calm)
    assert [each.count for each in rounds] == [6, 6, 6, 2]
    assert all(each.per_second > 0 for each in rounds)
    assert set(measured.profiles) == {"api", "worker-1"}
    text = report(measured)
    for words in ("fsync on", "ours: API", "people inside it", "one person alone", "2 connections", "cProfile of api"):
        assert words in text


def test_everything_about_the_ledger_is_measured_and_reported(tmp_path: Path) -> None:
    said: list[str] = []
    measured = measure_ledger(LEDGER_QUICK, tmp_path, say=said.append)
    assert [(cell.callers, cell.crowd) for cell in measured.cells] == [(2, "uniform"), (2, "zipf"), (2, "hot")]
    for cell in measured.cells:
        assert cell.ratio("ours", "pgbench").low > 0
        assert [len(sample.p50_p99_ms) for sample in cell.samples["ours"]] == [2]
    assert 0 < measured.weight.hot_share <= 1
    assert measured.weight.wal_bytes > measured.weight.wal_bytes_without_pages > 0
    assert measured.midnight.people == 50
    assert measured.history.entries >= LEDGER_QUICK.entries
    assert measured.verification.entries_per_second > 0
    text = ledger_report(measured)
    for words in (
        "fsync on",
        "2 callers zipf",
        "ours / it",
        "--pgledger=FOLDER",
        "HOT",
        "Midnight: 50",
        "at a time",
        "entries/s",
    ):
        assert words in text


def test_everything_about_fairness_is_measured_and_reported(tmp_path: Path) -> None:
    size = Size(crowd=20, singles=2, turns=16, herd=10, claims=1, allowance=50, seconds=1, run_seconds=0.5)
    measured = measure_fairness(size, tmp_path, say=lambda _: None)
    assert max(measured.sent_first) <= 1
    assert set(measured.shares.values()) == {100.0}
    assert [claims.workers for claims in measured.claims] == [1, 2, 4, 1, 2, 4]
    assert 1 <= measured.arrived.count <= measured.arrived.most <= measured.size.allowance
    assert max(measured.behind.begun_first) <= 1
    text = fairness_report(measured)
    for words in ("at most", "weight 5", "held back behind a limit, 4 worker(s)", "over HTTP", "recalled: "):
        assert words in text
    assert orjson.loads(orjson.dumps(asdict(measured), default=str))["shares"].keys() == measured.shares.keys()


@pytest.mark.timeout(300)  # two flights of five processes each
def test_everything_about_what_is_in_flight_is_measured_and_reported(tmp_path: Path) -> None:
    """The phase that begins with submits, and the one with most processes; the other two are made of the same."""
    measured = measure_inflight(replace(INFLIGHT_QUICK, phases=("room", "kill")), tmp_path, say=lambda _: None)
    assert [(phase.name, phase.ended, phase.refused, phase.broken) for phase in measured.phases] == [
        ("room", INFLIGHT_QUICK.arrivals, 0, []),
        ("kill", INFLIGHT_QUICK.rate * INFLIGHT_QUICK.seconds, 0, []),
    ]
    room, kill = measured.phases
    assert room.status_calls >= room.ended
    assert kill.took_over is not None
    assert 0 < kill.peak_mb[0] < 1000
    text = inflight_report(measured)
    for words in ("fsync on", "no webhooks, room", "killed with", "status calls in any 10 s", "of 11 hold"):
        assert words in text
    assert orjson.loads(orjson.dumps(asdict(measured), default=str))["phases"][0]["name"] == "room"


def test_a_kill_that_took_nothing_from_anybody_fails_its_phase() -> None:
    def held(took_over: TakeOver | None) -> list[bool]:
        return [verdict.holds for verdict in taken_over(took_over, 8)]

    assert held(TakeOver(silent_since=0, leased=3, seconds=8.5)) == [True, True]
    assert held(TakeOver(silent_since=0, leased=3, seconds=9.5)) == [True, False]
    assert held(TakeOver(silent_since=0, leased=0, seconds=0)) == [False, True]
    assert held(None) == [False, False]


def test_what_is_in_flight_is_bounded() -> None:
    assert inflight_options(["--quick", "--phases", "kill"]).phases == ["kill"]
    assert inflight_options([]).phases == PHASES
    for wrong in (["--in-flight", "0"], ["--rate", "many"], ["--seconds", "100000"], ["--phases", "every"]):
        with pytest.raises(SystemExit):
            inflight_options(wrong)


def test_a_history_that_was_written_in_bulk_is_whole(databases: Databases) -> None:
    written = history.build(databases, entries=500)
    assert history.verify(written, assert_ledger_clean).entries_per_second > 0
    wait_for(databases.drop(written.database_url.rpartition("/")[2]))


def test_a_run_ends_when_it_is_told_to_whatever_postgres_is_busy_with() -> None:
    with subprocess.Popen([sys.executable, "-c", _FOR_HOURS], stderr=subprocess.PIPE, text=True) as run:
        try:
            assert run.stderr is not None
            assert any("begins" in line for line in run.stderr), "it ended before"
            run.terminate()
            assert run.wait(timeout=60) == 128 + signal.SIGTERM
        finally:
            run.kill()


def test_pgledger_runs_beside_from_a_folder_that_the_user_has(tmp_path: Path) -> None:
    (tmp_path / "pgledger.sql").write_text(_LIKE_PGLEDGER)
    with open_ground(tmp_path) as ground:
        sides = pgledger.sides(ground, pgledger.read(tmp_path), LEDGER_QUICK.size)
        assert set(sides) == {"pgledger", "pgledger, revenue spread"}
        for side in sides.values():
            assert side(1, "zipf").per_second > 0


def test_pgledger_that_is_not_there_or_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(options.BenchFailed, match=r"without pgledger\.sql"):
        pgledger.read(tmp_path)
    (tmp_path / "pgledger.sql").write_text("SELECT uuid_to_ulid(NULL)")
    with open_ground(tmp_path) as ground, pytest.raises(options.BenchFailed, match="whole clone"):
        pgledger.sides(ground, pgledger.read(tmp_path), LEDGER_QUICK.size)


def test_without_pgbench_its_ratio_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pgbench.find(tmp_path, installed=tmp_path) is None


def test_figures() -> None:
    assert Spread.of([3, 1, 2]).text() == "2 (1-3)"
    assert ratios([1, 4], [2, 4]) == Spread(0.75, 0.5, 1.0)
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile(range(1, 101), 0.95) == 95


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "100000000"])
def test_counts_are_bounded(wrong: str) -> None:
    with pytest.raises(SystemExit):
        options.from_arguments(["--count", wrong])
