"""`GET /v1/media/{token}`: outputs by signed address. Whoever holds the address sees the output, for about a day."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from api.state import state_of
from shared.errors import InvalidToken

MAXIMUM_AGE_SECONDS = 24 * 3600
HEADERS = {
    "Cache-Control": f"private, max-age={MAXIMUM_AGE_SECONDS}, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Disposition": "inline",
}
"""Outputs are made elsewhere, from people's prompts: a browser shows them and never runs them."""

router = APIRouter(tags=["generations"])


@router.get(
    "/v1/media/{token}",
    operation_id="getMedia",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The output as it was made"}},
)
async def get_media(request: Request, token: str) -> StreamingResponse:
    """The bytes of one output."""
    storage = state_of(request).storage
    try:
        key, media_type = storage.verify(token)
    except ValueError as error:
        raise InvalidToken("This address was not issued here.") from error
    stored = await storage.open(key)

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in stored.chunks:
            yield chunk

    return StreamingResponse(chunks(), media_type=media_type, headers={**HEADERS, "Content-Length": str(stored.size)})
