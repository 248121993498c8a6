"""Bodies that routes read: JSON, and nothing that merely looks like it."""

from email.message import Message

from fastapi import Request
from starlette.exceptions import HTTPException


async def json_only(request: Request) -> None:
    """Refuse a body that does not say that it is JSON (415)."""
    declared = Message()
    declared["content-type"] = request.headers.get("content-type", "")
    subtype = declared.get_content_subtype()
    if declared.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise HTTPException(415)
