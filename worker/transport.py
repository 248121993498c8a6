"""Many connections to RunPod without looking at all of them for each request.

httpcore's pool goes over every connection it has, several times a request: with 50 calls at once that is more work than
the calls themselves. Small pools side by side cost what small pools cost. Each request goes to the one with the least
under way, the first of those, so that few calls share few connections and keep them warm.
"""

from collections.abc import AsyncIterator, Sequence
from typing import cast

import httpx

from shared.certificates import authorities


class SmallPools(httpx.AsyncBaseTransport):
    """One transport out of several, each with connections of its own."""

    def __init__(self, pools: Sequence[httpx.AsyncBaseTransport]) -> None:
        """Over these, which are closed with it."""
        self._pools = pools
        self._under_way = [0] * len(pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it through the pool with the least under way; it is under way until its answer is read and closed."""
        number = self._under_way.index(min(self._under_way))
        self._under_way[number] += 1
        try:
            response = await self._pools[number].handle_async_request(request)
        except BaseException:
            self._under_way[number] -= 1
            raise
        response.stream = _Counted(cast("httpx.AsyncByteStream", response.stream), self._under_way, number)
        return response

    async def aclose(self) -> None:
        """Close them all."""
        for pool in self._pools:
            await pool.aclose()


class _Counted(httpx.AsyncByteStream):
    """An answer's body; its request is over when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, under_way: list[int], number: int) -> None:
        self._stream = stream
        self._under_way = under_way
        self._number = number
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._under_way[self._number] -= 1
        await self._stream.aclose()


def open_pools(count: int, limits: httpx.Limits) -> SmallPools:
    """So many pools that have these limits together."""
    each = httpx.Limits(
        max_connections=_share(limits.max_connections, count),
        max_keepalive_connections=_share(limits.max_keepalive_connections, count),
        keepalive_expiry=limits.keepalive_expiry,
    )
    verify = authorities()
    return SmallPools([httpx.AsyncHTTPTransport(verify=verify, limits=each, trust_env=False) for _ in range(count)])


def _share(together: int | None, count: int) -> int | None:
    return None if together is None else -(-together // count)
