"""Daily credits: once for each date of the person's own calendar on which they come, until its midnight."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.database import Connection, Pool
from shared.errors import UnknownTimeZone
from tests.ledger.days import ZONES, local_date
from tests.ledger.invariants import assert_ledger_clean
from tests.ledger.life import connect
from tests.ledger.teller import NOON, Teller
from tests.local.databases import wait_for


async def somebody(conn: Connection, zone: str = "UTC", now: datetime = NOON, *, credits_a_day: int = 10) -> Teller:
    teller = Teller(conn, now=now)
    plan = await teller.plan(daily_credits=credits_a_day)
    return await teller.open(plan=plan, time_zone=zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


async def test_the_first_look_of_a_day_brings_its_credits(conn: Connection) -> None:
    teller = await somebody(conn)
    assert await teller.look()
    assert (await teller.balance()).available == 10
    assert not await teller.look()
    assert await teller.daily() == [("2026-03-01", 10, at("2026-03-02 00:00"))]
    assert (await teller.entries())[0][:4] == ("grant", "issued", "available", 10)


async def test_the_first_use_of_a_day_brings_its_credits(conn: Connection) -> None:
    teller = await somebody(conn)
    looked = await teller.decide(10)
    assert (looked.verdict, looked.balance.available) == ("warn", 10)
    assert looked.next_daily_at == at("2026-03-02 00:00")
    assert (await teller.reserve(10)).outcome == "held"
    denied = await teller.reserve(1)
    assert denied.outcome == "denied"
    assert (denied.decision.next_daily_at, denied.decision.next_daily_credits) == (at("2026-03-02 00:00"), 10)


async def test_a_look_that_may_not_write_sees_them_all_the_same(conn: Connection) -> None:
    teller = await somebody(conn)
    async with conn.transaction(readonly=True):
        balance = await teller.balance()
    assert (balance.available, balance.posted) == (10, 10)
    assert await teller.entries() == []


async def test_a_late_result_is_paid_with_the_day_s_credits_before_the_overdraft(conn: Connection) -> None:
    teller = await somebody(conn)
    hold_id = await teller.hold(10)
    await teller.after(24).expire()
    await teller.capture(hold_id, 8)
    assert [entry[:4] for entry in await teller.entries(since=4)] == [
        ("grant", "issued", "available", 10),
        ("capture", "available", "revenue", 8),
    ]
    assert (await teller.balance()).available == 2
    assert not await teller.look(), "they are given once"


async def test_an_adjustment_takes_what_the_balance_shows(conn: Connection) -> None:
    teller = await somebody(conn)
    await teller.look()
    assert (await teller.after(24).balance()).available == 10
    await teller.adjust(-10)
    assert (await teller.balance()).available == 0
    assert [entry[:4] for entry in await teller.entries(since=1)] == [
        ("expire", "available", "expired", 10),
        ("grant", "issued", "available", 10),
        ("adjust", "available", "reversed", 10),
    ]


@pytest.mark.parametrize(
    ("date", "ends_at", "moment", "zone", "fits"),
    [
        ("2026-03-01", "2026-03-02T05:00", "2026-03-01 12:00", "America/New_York", True),
        ("2026-03-02", "2026-03-02T05:00", "2026-03-01 12:00", "America/New_York", False),
        ("2026-03-01", "2026-03-03T05:00", "2026-03-01 12:00", "America/New_York", False),
        ("2026-03-01", "2026-03-02T03:00", "2026-03-01 12:00", "America/New_York", True),
        ("2026-03-01", "2026-03-02T01:00", "2026-03-01 12:00", "America/New_York", False),
        ("2026-03-01", "2026-03-02T03:00", "2026-03-02 04:00", "America/New_York", True),
        ("2026-03-02", "2026-03-03T05:00", "2026-03-02 03:30", "America/New_York", True),
        ("2026-03-02", "2026-03-03T05:00", "2026-03-02 01:30", "America/New_York", False),
        ("2026-03-01", "2026-03-02T05:00", "2026-03-01 12:00", "Nowhere/Land", True),
        ("2026-03-03", "2026-03-02T05:00", "2026-03-01 12:00", "Nowhere/Land", False),
        ("2026-02-27", "2026-03-02T05:00", "2026-03-01 12:00", "Nowhere/Land", False),
        ("2026-03-01", "2026-03-05T05:00", "2026-03-01 12:00", "Nowhere/Land", False),
        ("2026-03-01", "2026-03-01T05:00", "2026-03-01 12:00", "Nowhere/Land", False),
        ("x", None, "2026-03-01 12:00", "America/New_York", None),
    ],
)
async def test_a_day_is_believed_by_the_hour_since_rules_of_places_are_corrected(
    conn: Connection, date: str, ends_at: str | None, moment: str, zone: str, fits: bool | None
) -> None:
    told = await conn.fetchval(
        "SELECT ledger_day_fits($1, $2, $3, $4)", date, ends_at and f"{ends_at}:00.000000Z", at(moment), zone
    )
    assert bool(told) == bool(fits)


async def test_unused_credits_end_with_the_day_and_do_not_pile_up(conn: Connection) -> None:
    teller = await somebody(conn)
    for _ in range(3):
        await teller.look()
        assert (await teller.balance()).available == 10
        teller.after(24)
    teller.after(24 * 30)
    await teller.look()
    assert (await teller.balance()).posted == 10
    assert [day for day, _, _ in await teller.daily()] == ["2026-03-01", "2026-03-02", "2026-03-03", "2026-04-03"]


async def test_the_sweep_gives_nothing_to_who_stays_away(conn: Connection) -> None:
    teller = await somebody(conn)
    await teller.look()
    for _ in range(3):
        await teller.after(24).expire()
    assert len(await teller.daily()) == 1
    assert await teller.conn.fetchval("SELECT posted FROM user_billing WHERE user_id = $1", teller.user_id) == 0


async def test_twenty_five_first_uses_at_once_are_one_grant(pool: Pool, conn: Connection) -> None:
    teller = await somebody(conn)

    async def come(number: int) -> str:
        async with pool.acquire() as connection:
            person = Teller(connection, teller.user_id, teller.now)
            return str(await person.look()) if number % 2 else (await person.reserve(1)).outcome

    came = await asyncio.gather(*(come(number) for number in range(25)))
    assert (came.count("held"), came.count("denied")) == (10, 3)
    assert await teller.daily() == [("2026-03-01", 10, at("2026-03-02 00:00"))]
    assert (await teller.balance()).held == 10


async def test_who_was_never_seen_has_an_account_after_a_look(conn: Connection) -> None:
    teller = Teller(conn)
    async with conn.transaction():
        assert not await teller.look()
        await teller.plan(name="free", daily_credits=4)
        assert (await teller.balance()).available == 4
        assert await teller.look()
        assert (await teller.balance()).available == 4
        assert await conn.fetchval("SELECT plan FROM user_billing WHERE user_id = $1", teller.user_id) == "free"
        await teller.plan(name="free", daily_credits=0)


async def test_the_amount_is_that_of_the_plan_on_the_day(conn: Connection) -> None:
    teller = await somebody(conn, credits_a_day=0)
    assert not await teller.look()
    assert (await teller.decide(1)).next_daily_at is None
    pro = await teller.plan(daily_credits=25)
    await teller.set_terms(plan=pro)
    assert await teller.look()
    assert (await teller.balance()).available == 25
    await teller.plan(name=pro, daily_credits=40)
    await teller.look()
    assert (await teller.balance()).available == 25
    await teller.after(24).look()
    assert (await teller.balance()).available == 40
    await teller.plan(name=pro, daily_credits=0)
    assert (await teller.after(24).decide(1)).verdict == "block"


async def test_a_debt_is_paid_from_them_first(conn: Connection) -> None:
    teller = await somebody(conn)
    await teller.set_terms(overdraft_limit=20)
    await teller.capture(await teller.hold(16), 16)
    seq = await teller.seq()
    await teller.after(24).look()
    after = await teller.balance()
    assert (after.available, after.overdraft_used) == (4, 0)
    assert [entry[:4] for entry in await teller.entries(since=seq)] == [
        ("grant", "issued", "available", 10),
        ("repay", "available", "overdraft", 6),
    ]


@pytest.mark.parametrize(
    ("zone", "noon", "ends"),
    [
        ("Europe/Berlin", "2026-03-29 00:30", "2026-03-29 22:00"),  # 23 hours
        ("Europe/Berlin", "2026-10-25 10:00", "2026-10-25 23:00"),  # 25 hours
        ("Asia/Beirut", "2026-03-28 10:00", "2026-03-28 22:00"),  # the 29th begins at 01:00
        ("Africa/Cairo", "2026-04-23 10:00", "2026-04-23 22:00"),  # the 24th begins at 01:00
        ("America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 03:00"),  # the 4th began at 01:00
        ("Atlantic/Azores", "2026-10-24 12:00", "2026-10-25 00:00"),  # and again at 01:00 UTC
        ("America/Havana", "2026-10-31 12:00", "2026-11-01 04:00"),  # and again at 05:00 UTC
        ("America/Havana", "2026-11-01 04:30", "2026-11-02 05:00"),
        ("America/St_Johns", "2010-11-07 03:00", "2010-11-07 03:30"),  # 23:01 to 24:00, a second time
        ("Pacific/Apia", "2011-12-30 09:00", "2011-12-30 10:00"),  # the 30th never was
        ("Pacific/Kiritimati", "2026-03-01 12:00", "2026-03-02 10:00"),
        ("Pacific/Pago_Pago", "2026-03-01 12:00", "2026-03-02 11:00"),
        ("Asia/Kathmandu", "2026-03-01 12:00", "2026-03-01 18:15"),
        ("Antarctica/Troll", "2026-10-25 00:30", "2026-10-26 00:00"),
    ],
)
async def test_they_end_at_the_next_local_midnight(conn: Connection, zone: str, noon: str, ends: str) -> None:
    teller = await somebody(conn, zone, at(noon))
    assert (await teller.decide(1)).next_daily_at == at(ends)
    await teller.look()
    assert [(day, end) for day, _, end in await teller.daily()] == [(str(local_date(at(noon), zone)), at(ends))]
    teller.now = at(ends) - timedelta(seconds=1)
    assert (await teller.balance()).available == 10
    assert not await teller.look()
    teller.now = at(ends)
    await teller.look()
    assert (await teller.balance()).available == 10
    assert len(await teller.daily()) == 2


async def test_the_days_of_all_zones_end_as_the_clock_on_the_wall_says(conn: Connection) -> None:
    """Over the days on which most clocks change: looked at every quarter hour, in every zone the database knows."""
    said = await conn.fetch(
        """SELECT z.name, d.day, ledger_midnight_after(d.day, z.name, n.noon) AS said, (
               SELECT min(t) FROM generate_series(n.noon, n.noon + interval '3 days', '15 minutes') t
               WHERE (t AT TIME ZONE z.name)::date > d.day) AS shown
           FROM pg_timezone_names z
           CROSS JOIN unnest('{2026-03-07,2026-03-28,2026-04-23,2026-10-24,2026-10-31}'::date[]) AS d (day)
           CROSS JOIN LATERAL (SELECT (d.day - interval '12 hours') AT TIME ZONE 'UTC' AS noon) n
           WHERE z.name ~ '^[A-Z][a-z]+/'"""
    )
    assert len(said) > 1000
    assert [tuple(row) for row in said if row["said"] != row["shown"]] == []


@settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    walk=st.lists(
        st.tuples(st.sampled_from(ZONES), st.floats(0.1, 30), st.sampled_from(["look", "use", "neither"])), max_size=40
    ),
    start=st.sampled_from(["2026-03-06 20:00", "2026-03-27 20:00", "2026-10-24 05:00", "2026-10-31 02:00"]),
)
def test_a_traveller_gets_every_date_they_see_once(
    database_url: str, walk: list[tuple[str, float, str]], start: str
) -> None:
    wait_for(travel(database_url, walk, at(start)))


async def travel(url: str, walk: list[tuple[str, float, str]], start: datetime) -> None:
    conn = await connect(url)
    try:
        teller = await somebody(conn, now=start)
        seen = set()
        for zone, hours, coming in walk:
            before, moved_at = await teller.daily(), teller.now
            await teller.move_to(zone)
            teller.after(hours)
            today = local_date(teller.now, zone)
            if coming != "neither":
                await (teller.look() if coming == "look" else teller.reserve(1))
                seen.add(str(today))
            granted = await teller.daily()
            assert sorted(day for day, _, _ in granted) == sorted(seen)
            # Never more than the dates that it is anywhere on earth, of which there are three.
            assert sum(end > teller.now for _, _, end in granted) <= 3
            # A day's credits that were there when the person came to this zone last until the day is over in it.
            lasting = {day for day, _, end in before if end > moved_at}
            assert all(end > teller.now for day, _, end in granted if day == str(today) and day in lasting)
        await assert_ledger_clean(conn)
    finally:
        await conn.close()


async def test_credits_of_a_day_that_goes_on_elsewhere_last_until_it_is_over(conn: Connection) -> None:
    teller = await somebody(conn, "Pacific/Kiritimati", at("2026-03-01 09:30"))
    await teller.look()
    assert await teller.daily() == [("2026-03-01", 10, at("2026-03-01 10:00"))]
    hold = await teller.hold(3)
    await teller.move_to("Pacific/Pago_Pago")
    # There it is still the day before, which was not granted yet, and the 1st will end a day later.
    await teller.look()
    assert await teller.daily() == [
        ("2026-02-28", 10, at("2026-03-01 11:00")),
        ("2026-03-01", 10, at("2026-03-02 11:00")),
    ]
    assert (await teller.decide(1)).next_daily_at == at("2026-03-02 11:00")
    teller.now = at("2026-03-01 12:00")
    await teller.release(hold)
    assert (await teller.balance()).available == 10
    await teller.move_to("Pacific/Kiritimati")
    assert (await teller.daily())[1][2] == at("2026-03-02 11:00")


async def test_only_daily_credits_move_with_the_day(conn: Connection) -> None:
    teller = await somebody(conn, "Pacific/Kiritimati", at("2026-03-01 09:30"))
    await teller.grant(5, "promo", ref="2026-03-01", lasts=0.25)
    await teller.move_to("Pacific/Pago_Pago")
    # What is left are the day's own.
    assert (await teller.after(0.25).balance()).available == 10


async def test_credits_that_are_gone_do_not_come_back_with_a_time_zone(conn: Connection) -> None:
    teller = await somebody(conn, "Pacific/Kiritimati", at("2026-03-01 09:30"))
    await teller.look()
    await teller.reverse_grant("2026-03-01", kind="daily")
    await teller.after(0.1).move_to("Pacific/Pago_Pago")
    await teller.move_to("Pacific/Kiritimati")
    await teller.look()
    assert (await teller.balance()).available == 0
    assert len(await teller.daily()) == 1


async def test_a_day_that_was_over_is_over_wherever_one_goes(conn: Connection) -> None:
    teller = await somebody(conn, "Pacific/Kiritimati", at("2026-03-01 09:30"))
    await teller.look()
    teller.now = at("2026-03-01 10:30")
    await teller.move_to("Pacific/Pago_Pago")
    await teller.expire()
    assert (await teller.entries())[-1][:4] == ("expire", "available", "expired", 10)
    assert (await teller.daily())[0][2] == at("2026-03-01 10:00")


async def test_a_daily_grant_given_by_hand_is_that_days(conn: Connection) -> None:
    teller = await somebody(conn)
    await teller.grant(7, "daily", ref="2026-03-01", lasts=12)
    assert not await teller.look()
    assert (await teller.reserve(1)).balance.available == 6
    assert (await teller.decide(1)).next_daily_at == at("2026-03-02 00:00")


async def test_a_time_zone_is_a_name_of_the_database(conn: Connection) -> None:
    teller = await somebody(conn)
    for zone in ("Mars/Olympus", "", "+02:00", "CEST-2", "posix/Europe/Berlin", "europe/berlin", "UTC+2"):
        with pytest.raises(UnknownTimeZone):
            await teller.move_to(zone)
    await teller.move_to("Europe/Berlin")
    await teller.move_to("Europe/Berlin")
    operations = "SELECT actor, outcome FROM credit_operations WHERE scope = $1 AND kind = 'set-time-zone'"
    (row,) = await conn.fetch(operations, teller.user_id)
    assert (row["actor"], row["outcome"]) == (teller.user_id, {"before": "UTC", "after": "Europe/Berlin"})


async def test_a_place_that_postgres_knows_since_an_update_is_a_place(conn: Connection) -> None:
    await conn.execute("DELETE FROM time_zones WHERE name = 'Asia/Kathmandu'")
    teller = await Teller(conn).open(time_zone="Asia/Kathmandu")
    assert (
        await conn.fetchval("SELECT time_zone FROM user_billing WHERE user_id = $1", teller.user_id) == "Asia/Kathmandu"
    )
