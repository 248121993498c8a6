"""Bodies that routes read: JSON, and nothing that merely looks like it."""

import re
from datetime import UTC, datetime
from email.message import Message
from typing import Annotated

from fastapi import Request
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from starlette.exceptions import HTTPException


async def json_only(request: Request) -> None:
    """Refuse a body that does not say that it is JSON (415)."""
    declared = Message()
    declared["content-type"] = request.headers.get("content-type", "")
    subtype = declared.get_content_subtype()
    if declared.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise HTTPException(415)


_NUMBER = re.compile(r"\s*[+-]?[0-9_.]+\s*")


def _as_text(value: object) -> object:
    # pydantic would take a number, written out or not, for seconds, or milliseconds
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        msg = "must be a time with its offset, as text"
        raise ValueError(msg)
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        msg = "must be a time between the years 1 and 9999 in UTC"
        raise ValueError(msg) from error


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_as_text), AfterValidator(_in_utc)]
"""A moment, sent as text with its offset; in UTC from here on."""
