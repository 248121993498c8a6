"""Small pools side by side: the least busy one is taken; a request counts until its answer is read, or it failed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest

from worker.transport import SmallPools, open_pools


class Pool(httpx.AsyncBaseTransport):
    """A pool that answers with its number, and fails when told to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.failure: BaseException | None = None
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        if self.failure is not None:
            raise self.failure
        return httpx.Response(200, headers={"x-pool": str(self.number)}, stream=Said())

    async def aclose(self) -> None:
        self.closed = True


class Said(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"well"


def client(*pools: Pool) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=SmallPools(pools), base_url="http://runpod.test")


async def answered_by(http: httpx.AsyncClient) -> str:
    return str((await http.get("/")).headers["x-pool"])


async def test_who_comes_alone_finds_the_same_connections_again() -> None:
    async with client(Pool(0), Pool(1)) as http:
        assert [await answered_by(http) for _ in range(3)] == ["0", "0", "0"]


async def test_who_comes_while_others_wait_goes_where_least_is_under_way() -> None:
    async with client(Pool(0), Pool(1), Pool(2)) as http, AsyncExitStack() as under_way:
        unread = [await under_way.enter_async_context(http.stream("GET", "/")) for _ in range(4)]
        assert [response.headers["x-pool"] for response in unread] == ["0", "1", "2", "0"]
        assert await unread[2].aread() == b"well"
        assert await answered_by(http) == "2", "what was read is over"


async def test_what_was_answered_or_failed_is_not_under_way_any_more() -> None:
    first, second = Pool(0), Pool(1)
    async with client(first, second) as http:
        first.failure = httpx.ConnectError("no way there")
        with pytest.raises(httpx.ConnectError):
            await http.get("/")
        first.failure = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await http.get("/")
        first.failure = None
        assert await answered_by(http) == "0"
        async with http.stream("GET", "/") as response:
            await response.aclose()
            await response.aclose()
        assert await answered_by(http) == "0"


async def test_all_are_closed_with_it() -> None:
    pools = Pool(0), Pool(1)
    async with client(*pools):
        pass
    assert [pool.closed for pool in pools] == [True, True]


@pytest.mark.parametrize("count", [1, 7, 20])
async def test_together_they_have_the_connections_that_one_would_have(
    count: int, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """A server that answers nobody: as many connections as are allowed come to it, and the next one waits."""
    arrived = asyncio.Semaphore(0)

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.release()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", port := unused_tcp_port_factory())
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=20)
    timeout = httpx.Timeout(None, pool=0.2)
    async with server, httpx.AsyncClient(transport=open_pools(count, limits), timeout=timeout) as http:
        most = count * -(-20 // count)
        calls = [asyncio.create_task(http.get(f"http://127.0.0.1:{port}/")) for _ in range(most)]
        for _ in range(most):
            await arrived.acquire()
        with pytest.raises(httpx.PoolTimeout):
            await http.get(f"http://127.0.0.1:{port}/")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
