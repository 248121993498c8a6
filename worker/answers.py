"""The body of an answer of RunPod's: read piece by piece, within what an answer may be and what memory there is."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

MAXIMUM_ANSWER_BYTES = 32 * 1024 * 1024
SMALL_ANSWER_BYTES = 256 * 1024
"""What is read of any answer without asking for room: how a job stands takes a few hundred bytes."""
USUAL_ANSWER_BYTES = 4 * 1024 * 1024
"""What an answer is taken to be that is not small and does not say how long it is."""
_PIECE_BYTES = 64 * 1024

MakeRoom = Callable[[int], Awaitable[None]]
"""Waits until there is memory for an answer of so many bytes. Asked again, with more, when it proves larger."""


class AnswerTooLarge(ValueError):
    """The answer is larger than any that RunPod may give."""


async def anyway(_: int) -> None:
    """No need to wait."""


async def only_small(_: int) -> None:
    """There is room for none that is not small.

    Raises:
        AnswerTooLarge: always.
    """
    msg = f"more than {SMALL_ANSWER_BYTES} bytes"
    raise AnswerTooLarge(msg)


async def read_body(response: httpx.Response, make_room: MakeRoom) -> bytes:
    """The body, inflated if something on the way compressed it unasked. While there is no room, nothing is read.

    Raises:
        AnswerTooLarge: as it came or inflated.
        httpx.DecodingError: compressed in a way that nobody could want.
    """
    content, room = bytearray(), SMALL_ANSWER_BYTES
    async for piece in _pieces(response):
        content += piece
        if len(content) > MAXIMUM_ANSWER_BYTES:
            msg = f"more than {MAXIMUM_ANSWER_BYTES} bytes"
            raise AnswerTooLarge(msg)
        if len(content) > room:
            announced = _announced(response)
            room = announced if announced > len(content) else MAXIMUM_ANSWER_BYTES
            await make_room(room)
    return bytes(content)


def _announced(response: httpx.Response) -> int:
    """How long the answer says that it is; what is compressed says that of something else."""
    told = response.headers.get("content-length", "")
    if response.headers.get("content-encoding") or not (told.isascii() and told.isdigit()):
        return USUAL_ANSWER_BYTES
    return min(int(told[:20]), MAXIMUM_ANSWER_BYTES)


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    coding = response.headers.get("content-encoding", "identity").lower()
    if coding not in ("identity", "gzip"):
        msg = f"an answer in {coding[:40]!r}"
        raise httpx.DecodingError(msg)
    if coding == "identity":
        async for chunk in response.aiter_bytes():
            yield chunk
        return
    # not httpx's own inflating: it does a chunk whole, and a few hundred bytes may be gigabytes
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    async for chunk in response.aiter_raw():
        left, full = chunk, True
        while left or full:
            try:
                piece = inflate.decompress(left, _PIECE_BYTES)
            except zlib.error as error:
                msg = "an answer that cannot be inflated"
                raise httpx.DecodingError(msg) from error
            if inflate.unused_data:  # zlib would put aside whatever follows, however much there is
                msg = "something after the end of a compressed answer"
                raise httpx.DecodingError(msg)
            yield piece
            left, full = inflate.unconsumed_tail, len(piece) == _PIECE_BYTES
