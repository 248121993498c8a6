"""`GET /v1/media/{token}`: outputs by signed address. Whoever holds the address sees the output, for about a day.

Not what was deleted since: that is asked of Postgres each time. A browser that has shown it may keep its own copy for
as long as the address would have worked.

One range of bytes may be asked for (RFC 9110, 14), so that players can seek and Safari plays at all.
"""

import re
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from api.state import state_of
from shared import sql
from shared.errors import InvalidToken, NotFound

_SQL = sql.load(__file__)

MAXIMUM_AGE_SECONDS = 24 * 3600
HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": f"private, max-age={MAXIMUM_AGE_SECONDS}, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Disposition": "inline",
}
"""Outputs are made elsewhere, from people's prompts: a browser shows them and never runs them."""
_BINARY: dict[str, dict[str, str]] = {"application/octet-stream": {}}
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)

router = APIRouter(tags=["generations"])


@router.head("/v1/media/{token}", include_in_schema=False)
@router.get(
    "/v1/media/{token}",
    operation_id="getMedia",
    response_class=StreamingResponse,
    responses={
        200: {"content": _BINARY, "description": "The output as it was made"},
        206: {"content": _BINARY, "description": "The bytes that Range asks for"},
    },
)
async def get_media(request: Request, token: str) -> Response:
    """The bytes of one output, or one range of them."""
    state = state_of(request)
    storage = state.storage
    try:
        key, media_type = storage.verify(token)
    except ValueError as error:
        raise InvalidToken("This address was not issued here.") from error
    async with state.connection() as connection:
        if not await connection.fetchval(_SQL["is_shown"], storage.generation_of(key)):
            raise NotFound("This output is not here any more.")
    if request.method == "HEAD":
        size = await storage.size(key)
        return Response(media_type=media_type, headers={**HEADERS, "Content-Length": str(size)})
    asked = request.headers.get("range")
    # We give out no validators, so an If-Range cannot match: the whole is what it asks for then.
    if asked is None or "if-range" in request.headers or not is_range(asked):
        stored = await storage.open(key)
        headers = {**HEADERS, "Content-Length": str(stored.size)}
        return StreamingResponse(stored.chunks, media_type=media_type, headers=headers)
    size = await storage.size(key)
    span = span_of(asked, size)
    if not span:
        raise HTTPException(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers={"Content-Range": f"bytes */{size}"})
    stored = await storage.open(key, span=span)
    headers = {
        **HEADERS,
        "Content-Length": str(stored.size),
        "Content-Range": f"bytes {span.start}-{span.stop - 1}/{size}",
    }
    return StreamingResponse(stored.chunks, HTTPStatus.PARTIAL_CONTENT, media_type=media_type, headers=headers)


def is_range(asked: str) -> bool:
    """Whether a Range header asks for one range of bytes; anything else is to be ignored."""
    found = _ONE_RANGE.fullmatch(asked)
    if found is None:
        return False
    first, last = found.groups()
    return int(first) <= int(last) if first and last else bool(first or last)


def span_of(asked: str, size: int) -> range:
    """The bytes of `size` that such a header asks for; empty when there are none."""
    first, _, last = asked.partition("=")[2].partition("-")
    if first:
        return range(int(first), min(int(last) + 1, size) if last else size)
    return range(max(size - int(last), 0), size)
