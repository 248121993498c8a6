"""Local days in plain Python: no rule of a calendar, only a clock on the wall that is looked at every quarter hour."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

_QUARTER = timedelta(minutes=15)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "Asia/Beirut",
    "Africa/Cairo",
    "Atlantic/Azores",
    "America/Havana",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)
"""Midnights that are left out (Beirut, Cairo), that come twice (the Azores, Havana), and both ends of the date line."""


def local_date(at: datetime, zone: str) -> date:
    """What the calendar on the wall says there."""
    return at.astimezone(ZoneInfo(zone)).date()


def midnight_after(day: date, zone: str, now: datetime) -> datetime:
    """The first quarter hour after `now` at which the calendar shows a later date than `day`."""
    at = now - (now - datetime.min.replace(tzinfo=now.tzinfo)) % _QUARTER + _QUARTER
    while local_date(at, zone) <= day:
        at += _QUARTER
    return at
