"""Settings, and what a change of the time zone does to a day's credits: none twice, none lost."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.api.conftest import Caller, World
from tests.api.histories import daily_plan


async def changed(person: Caller, **body: Any) -> dict[str, Any]:
    reply = await person("PATCH", "/v1/settings", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


async def daily_grants(person: Caller) -> list[str]:
    """Look, and tell for which days credits were given so far."""
    assert (await person("GET", "/v1/credits")).status_code == 200
    entries = (await person("GET", "/v1/credits/entries", params={"kind": "grant"})).json()["data"]
    return sorted(entry["source_ref"] for entry in entries)


async def test_a_time_zone_is_chosen_and_stays(world: World) -> None:
    person = await world.person()
    assert (await person("GET", "/v1/settings")).json() == {"time_zone": "UTC"}
    assert await changed(person, time_zone="Asia/Kolkata") == {"time_zone": "Asia/Kolkata"}
    assert await changed(person) == {"time_zone": "Asia/Kolkata"}
    credits_now = (await person("GET", "/v1/credits")).json()
    assert credits_now["time_zone"] == "Asia/Kolkata"
    assert (await (await world.person())("GET", "/v1/settings")).json() == {"time_zone": "UTC"}


async def test_round_the_world_each_date_is_given_once(world: World) -> None:
    async with world.pool.acquire() as connection:
        plan = await daily_plan(connection, 10)
    person = await world.person(plan=plan, time_zone="Pacific/Pago_Pago")
    here = await daily_grants(person)
    assert len(here) == 1
    await changed(person, time_zone="Pacific/Kiritimati")  # 25 hours ahead: another date, whenever this runs
    there = await daily_grants(person)
    assert len(there) == 2
    assert there[0] < there[1]
    assert await person.available() == 20, "the day that was left lasts until its own end"
    dates = set(there)
    for zone in ("Pacific/Pago_Pago", "Europe/Berlin", "Pacific/Kiritimati", "America/New_York", "Pacific/Kiritimati"):
        await changed(person, time_zone=zone)
        dates.add(datetime.now(ZoneInfo(zone)).date().isoformat())  # for an hour of each day there are three on Earth
        assert await daily_grants(person) == sorted(dates), zone
        assert await person.available() <= 10 * len(dates)


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Olympus_Mons",
        "CEST",
        "+01:00",
        "posix/Europe/Berlin",
        "europe/berlin",
        "",
        "UTC'; --",
        "A" * 200,
        "Europe/\0",
    ],
)
async def test_there_is_no_such_time_zone(world: World, zone: str) -> None:
    person = await world.person()
    reply = await person("PATCH", "/v1/settings", json={"time_zone": zone})
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["pointer"] == "/time_zone"
    assert (await person("GET", "/v1/settings")).json() == {"time_zone": "UTC"}
    assert set((await person.traces()).values()) == {0}


@pytest.mark.parametrize("body", [{"timezone": "UTC"}, {"time_zone": 1}, {"plan": "gold"}, [], "UTC"])
async def test_only_what_there_is_can_be_set(world: World, body: Any) -> None:
    person = await world.person()
    assert (await person("PATCH", "/v1/settings", json=body)).status_code == 422
