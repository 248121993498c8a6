"""Verification itself: silent about what is whole, whatever its history; bounded; kept; one at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from shared import ledger, verifications
from shared.database import Connection, Pool
from shared.errors import TwinError
from shared.findings import MEANINGS, Finding
from shared.verify import OVERDUE, Tally, verify
from tests.ledger.forgeries import FORGERIES, allow_everything
from tests.ledger.invariants import LONG_AGO
from tests.ledger.teller import HOUR, NOON, PRICE, Teller

DAY = timedelta(days=1)


class Undo(Exception):
    """Nothing of it happened."""


@pytest_asyncio.fixture(loop_scope="module")
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    """Nobody has an account, and nothing has been verified."""
    async with pool.acquire() as connection:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            """TRUNCATE user_billing, credit_buckets, credit_holds, credit_entries,
               credit_warnings, generations, ledger_verifications CASCADE"""
        )
        await connection.execute("DELETE FROM credit_operations WHERE scope NOT IN ('plans', 'prices')")
        await connection.execute("DELETE FROM credit_acts WHERE scope NOT IN ('plans', 'prices')")
        await connection.execute("SET session_replication_role = origin")
        yield connection


async def found(connection: Connection, **scope: Any) -> list[Finding]:
    return [finding async for finding in verify(connection, **{"now": LONG_AGO, "alone": True, **scope})]


async def somebody(
    connection: Connection, user_id: str | None = None, *, now: datetime = NOON, jobs: int = 4
) -> Teller:
    """A person with a few charged jobs and one that is going on."""
    teller = Teller(connection, now=now)
    if user_id is not None:
        teller.user_id = user_id
    await teller.grant(100)
    for _ in range(jobs):
        await teller.capture(await teller.hold(3), 2)
    await teller.hold(5)
    return teller


async def saver(connection: Connection) -> Teller:
    """A person who has credits, as of now, and never asked for anything: no hold of theirs lacks a generation."""
    teller = Teller(connection, now=datetime.now(UTC))
    await teller.grant(100)
    return teller


async def test_names_of_all_kinds_hash_as_they_were_written(conn: Connection) -> None:
    for name in ('a"b\\c', "línea\n\t\x01", "🐘 名前", "a/b", " ", "null", "\x7f\u2028é"):
        teller = await somebody(conn, name)
        await teller.grant(1, "promo", ref=name + "ref", lasts=3)
        await teller.adjust(2)
        await teller.after(4).expire()
    tally = Tally()
    assert [finding async for finding in verify(conn, now=LONG_AGO, alone=True, tally=tally)] == []
    assert tally.accounts == 7
    assert tally.entries == await conn.fetchval("SELECT count(*) FROM credit_entries")
    assert tally.issued == 7 * 103


@pytest.mark.parametrize("batch", [1, 2, 5, 13, 1000])
async def test_a_chain_is_read_in_pieces(conn: Connection, batch: int) -> None:
    tellers = [await somebody(conn) for _ in range(3)]
    assert await found(conn, batch_entries=batch) == []
    async with conn.transaction():
        key = await FORGERIES["edited amount"].commit(conn, tellers[1].user_id)
    changed = {f.key for f in await found(conn, batch_entries=batch) if f.kind == "entry-changed"}
    assert changed == {key}


async def test_the_last_piece_may_end_exactly_where_the_chain_does(conn: Connection) -> None:
    teller = await somebody(conn)
    seq = await teller.seq()
    async with conn.transaction():
        await FORGERIES["deleted last entry"].commit(conn, teller.user_id)
    for batch in (seq - 1, seq, seq + 1):
        missing = [f.key for f in await found(conn, batch_entries=batch) if f.kind == "entry-missing"]
        assert missing == [f"{teller.user_id}/{seq}"]


async def test_round_trips_depend_on_entries_not_on_accounts(conn: Connection) -> None:
    async def statements() -> int:
        asked: list[str] = []
        with conn.query_logger(lambda query: asked.append(query.query)):
            assert await found(conn) == []
        return len(asked)

    for _ in range(2):  # one is looked at part by part
        await somebody(conn)
    await statements()  # the driver looks types up once
    once = await statements()
    for _ in range(20):
        await somebody(conn)
    assert await statements() == once


async def test_what_is_found_of_one_account_is_told_at_once(conn: Connection) -> None:
    """It may have millions of entries, each of them bad: they are not kept until the last was read."""
    teller = await somebody(conn, jobs=20)
    with suppress(Undo):
        async with conn.transaction():
            await allow_everything(conn)
            await conn.execute("UPDATE credit_entries SET actor = 'x' WHERE user_id = $1", teller.user_id)
            asked: list[str] = []
            with conn.query_logger(lambda query: asked.append(query.query)):
                read = [
                    sum("FROM unnest" in query for query in asked)
                    async for finding in verify(conn, now=LONG_AGO, alone=True, batch_entries=5)
                    if finding.kind == "entry-changed"
                ]
            raise Undo
    assert read[0] <= 1  # the driver tells of a query a turn later
    assert read[-1] > 5


async def test_a_scope_is_that_and_no_more(conn: Connection) -> None:
    early, late = await somebody(conn), await somebody(conn, now=NOON + 5 * HOUR)
    async with conn.transaction():
        for teller in (early, late):
            await FORGERIES["forged balance"].commit(conn, teller.user_id)

    async def blamed(**scope: Any) -> set[str]:
        return {finding.key for finding in await found(conn, **scope)}

    assert await blamed(user_id=early.user_id) == {early.user_id}
    assert await blamed(user_id="nobody") == set()
    assert await blamed(since=NOON + HOUR) == {late.user_id}
    assert await blamed(since=NOON + 6 * HOUR) == set()
    assert await blamed() == {early.user_id, late.user_id, "*"}


async def test_a_hold_that_nobody_gave_back_is_named(conn: Connection) -> None:
    teller = await somebody(conn)
    in_time = NOON + HOUR + OVERDUE
    assert await found(conn, now=in_time) == []
    overdue = await found(conn, now=in_time + timedelta(seconds=1))
    assert [(f.kind, f.user_id) for f in overdue] == [("hold-overdue", teller.user_id)]


@pytest.mark.parametrize(("promised", "named"), [(5, []), (4, ["hold-price"]), (6, ["hold-price"])])
async def test_a_hold_that_promises_another_sum_than_its_price_is_named(
    conn: Connection, promised: int, named: list[str]
) -> None:
    teller = await somebody(conn)
    await ledger.reserve(
        conn,
        user_id=teller.user_id,
        key="k",
        generation_id=uuid4(),
        amount=promised,
        expires_at=teller.now + HOUR,
        price={**PRICE, "total": 5},
        now=teller.now,
    )
    assert [f.kind for f in await found(conn)] == named


@pytest.mark.parametrize(
    ("raised", "lowered"),
    [
        (
            "UPDATE user_billing SET overdraft_limit = 50 WHERE user_id = $1",
            "UPDATE user_billing SET overdraft_limit = NULL WHERE user_id = $1",
        ),
        (
            "UPDATE user_billing SET policy = 'off' WHERE user_id = $1",
            "UPDATE user_billing SET policy = NULL WHERE user_id = $1",
        ),
        (
            "UPDATE credit_plans SET overdraft_limit = 50 WHERE plan = $1",
            "UPDATE credit_plans SET overdraft_limit = 5 WHERE plan = $1",
        ),
    ],
)
async def test_borrowing_beyond_a_limit_that_was_raised_by_hand_and_set_back_is_named(
    conn: Connection, raised: str, lowered: str
) -> None:
    teller = Teller(conn)
    plan = await teller.plan(name=teller.user_id, overdraft_limit=5)
    await teller.open(plan=plan)
    await teller.hold(5)
    await conn.execute(raised, teller.user_id)
    await teller.reserve(20, key="too much")
    await conn.execute(lowered, teller.user_id)
    await teller.after(24).plan(name=plan, overdraft_limit=50)
    beyond = [("overdraft-beyond-limit", f"{teller.user_id}/too much")]
    assert [(f.kind, f.key) for f in await found(conn)] == beyond


async def test_a_limit_lends_nothing_under_a_hard_policy(conn: Connection) -> None:
    teller = Teller(conn)
    plan = await teller.plan(name=teller.user_id, overdraft_limit=50, policy="hard")
    await teller.open(plan=plan)
    await conn.execute("UPDATE credit_plans SET policy = 'soft' WHERE plan = $1", plan)
    await teller.reserve(20, key="lent")
    await conn.execute("UPDATE credit_plans SET policy = 'hard' WHERE plan = $1", plan)
    assert [(f.kind, f.key) for f in await found(conn)] == [("overdraft-beyond-limit", f"{teller.user_id}/lent")]


async def test_each_reserve_is_judged_by_the_terms_of_its_time(conn: Connection) -> None:
    teller = Teller(conn)
    plan = await teller.plan(overdraft_limit=5)
    await teller.open(plan=plan)
    await teller.hold(5)
    await teller.set_terms(overdraft_limit=20)
    await teller.hold(15)
    await teller.set_terms(overdraft_limit=0)
    await teller.move_to("Asia/Tokyo")
    assert await found(conn) == [], "a limit that is lowered later is no offence"
    await teller.set_terms(overdraft_limit=None, policy="off")
    await teller.hold(30)
    await teller.set_terms(policy=None)
    await teller.after(1).plan(name=plan, policy="off")
    await teller.hold(100)
    await teller.after(1).plan(name=plan, policy="hard")
    assert await found(conn) == []


async def test_daily_credits_are_judged_by_the_terms_of_their_time(conn: Connection) -> None:
    teller = Teller(conn)
    small, large = await teller.plan(daily_credits=3), await teller.plan(daily_credits=30)
    await teller.open(plan=small, time_zone="Pacific/Kiritimati")
    await teller.look()
    await teller.set_terms(plan=large)
    await teller.move_to("Pacific/Pago_Pago")
    await teller.look()
    await teller.after(48).plan(name=large, daily_credits=31)
    await teller.look()
    await teller.set_terms(plan=small)
    await teller.after(24).plan(name=small, daily_credits=0)
    await teller.look()
    given = [(day, amount) for day, amount, _ in await teller.daily()]
    assert given == [("2026-03-01", 30), ("2026-03-02", 3), ("2026-03-03", 31)]
    assert await found(conn) == []


@pytest.mark.parametrize("seconds", [-59, 59])
async def test_a_plan_may_be_seen_a_moment_before_or_after_it_was_changed(conn: Connection, seconds: int) -> None:
    """A change is seen when it is committed, and is of the moment in which it was made; clocks step back."""
    teller = Teller(conn)
    plan = await teller.plan(daily_credits=3, overdraft_limit=3)
    await teller.after(1).open(plan=plan)

    async def change() -> None:
        teller.now += timedelta(seconds=seconds)
        await teller.plan(name=plan, daily_credits=4, overdraft_limit=4)
        teller.now -= timedelta(seconds=seconds)

    if seconds > 0:
        await change()
    await teller.look()
    available = (await teller.balance()).available
    await teller.hold(available + available)
    if seconds < 0:
        await change()
    assert available == (4 if seconds > 0 else 3)
    assert await found(conn) == []


@pytest.mark.parametrize("minutes", [-2, 2])
async def test_a_plan_of_another_time_is_no_excuse(conn: Connection, minutes: int) -> None:
    teller = Teller(conn)
    plan = await teller.plan(daily_credits=3)
    await teller.after(1).open(plan=plan)
    teller.now += timedelta(minutes=minutes)
    await teller.plan(name=plan, daily_credits=4 if minutes > 0 else 5)
    teller.now -= timedelta(minutes=minutes)
    async with conn.transaction():
        await conn.execute(
            "SELECT ledger_grant_daily(ledger_lock($1), $2, gen_random_uuid(), $3)",
            teller.user_id,
            4 if minutes > 0 else 3,
            teller.now,
        )
    assert [f.kind for f in await found(conn)] == ["daily-unfounded"]


@pytest.mark.parametrize("end", ["capture", "release"])
@pytest.mark.parametrize("due", ["credits that ended", "a debt and credits that came"])
async def test_what_is_tidied_beside_a_free_hold_is_no_offence(conn: Connection, end: str, due: str) -> None:
    teller = await Teller(conn).open(overdraft_limit=5)
    if due == "credits that ended":
        await teller.grant(10, lasts=0.5)
    else:
        await teller.grant(10, starts=0.5)
        await teller.capture(await teller.hold(5), 5)
    hold_id = await teller.hold(0, lasts=5)
    teller.after(1)
    await (teller.capture(hold_id, 0) if end == "capture" else teller.release(hold_id))
    assert await found(conn) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE credit_operations SET created_at = '4714-11-24 BC' WHERE scope = 'plans' AND act_seq = 1",
        "UPDATE credit_operations SET created_at = 'infinity' WHERE scope = 'plans' AND act_seq = 1",
        """UPDATE price_versions SET batch_multipliers = '[{"min_batch": 1e300, "multiplier_permille": 1}]'
           WHERE version = 2""",
    ],
)
async def test_what_is_forged_of_everybody_hides_nothing_of_anybody(conn: Connection, change: str) -> None:
    tellers = [await somebody(conn) for _ in range(3)]
    await tellers[0].plan()
    with suppress(Undo):
        async with conn.transaction():
            await allow_everything(conn)
            await conn.execute(change)
            await conn.execute("UPDATE user_billing SET posted = posted + 1 WHERE user_id = $1", tellers[1].user_id)
            named = {(f.kind, f.key) for f in await found(conn)}
            raise Undo
    assert ("account-differs", tellers[1].user_id) in named
    assert not {key for kind, key in named if kind == "unreadable"} & {teller.user_id for teller in tellers}


async def test_what_cannot_be_read_hides_nothing_else_of_the_account(conn: Connection) -> None:
    teller, beside = await somebody(conn), await somebody(conn)
    with suppress(Undo):
        async with conn.transaction():
            await allow_everything(conn)
            for whose in (teller, beside):
                await conn.execute("UPDATE credit_buckets SET granted = 1000 WHERE user_id = $1", whose.user_id)
            await conn.execute(
                "UPDATE credit_entries SET amount = 9223372036854775807 WHERE user_id = $1", teller.user_id
            )
            named = {(f.kind, f.user_id) for f in await found(conn)}
            raise Undo
    assert {("unreadable", teller.user_id), ("bucket-differs", beside.user_id)} <= named
    assert ("operation-differs", teller.user_id) in named


async def test_writers_raise_no_false_alarm(conn: Connection, pool: Pool, database_url: str) -> None:
    names = [f"busy_{n}" for n in range(4)]
    done = asyncio.Event()
    written = 0

    async def write(number: int) -> None:
        nonlocal written
        connection = await asyncpg.connect(database_url)
        teller = Teller(connection, names[number % len(names)], datetime.now(UTC))
        try:
            while not done.is_set():
                teller.now += timedelta(milliseconds=1)
                await teller.grant(20, "promo", lasts=1)
                hold_id = await teller.hold(7)
                await (teller.capture(hold_id, 4) if written % 2 else teller.release(hold_id))
                written += 1
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as writers:
        for number in range(8):
            writers.create_task(write(number))
        verified = Tally()
        while written < 100 or verified.entries < 500:
            assert [f async for f in verify(conn, now=LONG_AGO, alone=True, batch_entries=50, tally=verified)] == []
            verified = Tally(entries=verified.entries)
        done.set()


# ---------------------------------------------------------------------------------------------- runs that are kept


async def test_a_run_is_kept(conn: Connection, pool: Pool) -> None:
    assert await verifications.latest(conn) is None
    teller = await saver(conn)
    clean = await verifications.run(pool)
    assert clean.ok
    assert clean == await verifications.latest(conn)
    assert (clean.accounts, clean.entries) == (1, await teller.seq())
    async with conn.transaction():
        await FORGERIES["forged balance"].commit(conn, teller.user_id)
    heard: list[Finding] = []
    bad = await verifications.run(pool, found=heard.append)
    assert not bad.ok
    assert bad.findings == len(heard) == len(bad.first_findings) == 2
    assert bad.first_findings[0]["key"] == teller.user_id
    assert bad.first_findings[0]["meaning"] in MEANINGS.values()
    assert (await verifications.run(pool, user_id="nobody")).accounts == 0
    assert bad == await verifications.latest(conn), "one account says nothing of all"


async def test_a_run_that_fails_says_so(conn: Connection, pool: Pool) -> None:
    teller = await somebody(conn)
    async with conn.transaction():
        await FORGERIES["forged balance"].commit(conn, teller.user_id)

    def refuse(finding: Finding) -> None:
        raise TwinError("no more paper")

    with pytest.raises(TwinError):
        await verifications.run(pool, found=refuse)
    kept = await verifications.latest(conn)
    assert kept is not None
    assert (kept.ok, kept.error, kept.findings) == (False, "TwinError: no more paper", 1)


async def test_one_worker_at_a_time_runs_what_is_due(conn: Connection, pool: Pool) -> None:
    claims = await asyncio.gather(*(verifications.claim(pool, every=HOUR, whole_every=DAY) for _ in range(8)))
    [mine] = [claim for claim in claims if claim is not None]
    assert mine.since is None, "the first is of everybody"
    await verifications.run(pool, claimed=mine)
    assert await verifications.claim(pool, every=HOUR, whole_every=DAY) is None


async def test_between_whole_runs_only_what_was_touched_is_verified(conn: Connection, pool: Pool) -> None:
    teller = await saver(conn)
    whole = await verifications.run(pool)
    await _pass_time(conn, hours=1)
    next_one = await verifications.claim(pool, every=HOUR, whole_every=DAY)
    assert next_one is not None
    assert next_one.since == whole.started_at - HOUR - verifications.MARGIN
    async with conn.transaction():
        await FORGERIES["forged balance"].commit(conn, teller.user_id)
    assert not (await verifications.run(pool, claimed=next_one)).ok
    await _pass_time(conn, hours=1)
    again = await verifications.claim(pool, every=HOUR, whole_every=DAY)
    assert again is not None
    assert again.since == whole.started_at - 2 * HOUR - verifications.MARGIN, "back to the last clean one"
    await verifications.run(pool, claimed=again)
    await _pass_time(conn, hours=22)
    after_a_day = await verifications.claim(pool, every=HOUR, whole_every=DAY)
    assert after_a_day is not None
    assert after_a_day.since is None
    assert not (await verifications.run(pool, claimed=after_a_day)).ok
    await _pass_time(conn, hours=1)
    until_clean = await verifications.claim(pool, every=HOUR, whole_every=DAY)
    assert until_clean is not None
    assert until_clean.since is None


async def test_a_worker_that_went_away_keeps_nobody_waiting(conn: Connection, pool: Pool) -> None:
    assert await verifications.claim(pool, every=HOUR, whole_every=DAY) is not None
    await _pass_time(conn, hours=2)
    assert await verifications.claim(pool, every=HOUR, whole_every=DAY) is not None
    kept = await verifications.latest(conn)
    assert kept is not None
    assert kept.error == "whoever ran it went away"


async def _pass_time(connection: Connection, *, hours: int) -> None:
    await connection.execute(
        """UPDATE ledger_verifications
           SET started_at = started_at - $1::interval, lease_until = lease_until - $1::interval""",
        hours * HOUR,
    )
