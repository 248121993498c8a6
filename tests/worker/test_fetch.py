"""An address is public or not fetched, and no more of it is read than may be."""

import asyncio
import contextlib
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest

from worker import media
from worker.fetch import NotFetched, fetch, is_plain, is_public, open_outside


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "192.88.99.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
        "192.0.0.0", "192.0.0.9", "192.0.0.192", "192.0.0.255", "198.18.0.1", "240.0.0.1", "64:ff9b:1::a00:1",
        "64:ff9b:1::5db8:d70e", "3fff::1", "3fff:fff::1", "5f00::1", "2001:1::1", "2001:20::1", "2001:db8::1", "100::1",
        "fe80::1%eth0", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14", "192.0.1.1", "192.0.78.9", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:200::1",
        "2001:4860:4860::8888", "64:ff9b::5db8:d70e", "2001:0:7f00:1::a247:28f1",
    ],
)  # fmt: skip
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/a.png", "https://127.0.0.1/a.png", "https://localhost/a.png", "https://[::1]/a.png",
        "https://user:secret@93.184.215.14/a.png", "file:///etc/passwd", "https://", "https://2130706433/a.png",
    ],
)  # fmt: skip
async def test_an_address_inside_is_never_asked(url: str) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
        with pytest.raises(NotFetched):
            await fetch(http, url)


async def test_a_redirect_inside_is_not_followed_and_a_name_goes_with_the_checked_address() -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.headers["host"]))
        return httpx.Response(302, headers={"location": "https://169.254.169.254/latest"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(NotFetched):
            await fetch(http, "https://93.184.215.14/a.png")
    assert asked == [("93.184.215.14", "93.184.215.14")]


async def test_what_one_host_sets_is_told_to_no_other_at_its_address() -> None:
    told = []

    def answer(request: httpx.Request) -> httpx.Response:
        told.append(request.headers.get("cookie"))
        return httpx.Response(200, content=b"x", headers={"set-cookie": "who=the-first; Path=/"})

    async with open_outside(transport=httpx.MockTransport(answer)) as http:
        for host in ("93.184.215.14", "93.184.215.14:443"):
            await fetch(http, f"https://{host}/a.png")
    assert told == [None, None]


async def test_no_name_gets_the_connection_of_another_at_its_address() -> None:
    """Whose certificate was checked is whom it was opened for."""
    opened, closed = [], asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
        closed.release()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_outside() as http:
            for name in ("one.example", "other.example"):
                extensions = {"sni_hostname": name}
                await http.get(f"http://127.0.0.1:{port}/", headers={"host": name}, extensions=extensions)
        for _ in opened:
            await closed.acquire()
    assert len(opened) == 2


async def test_fetched_bytes_come_back() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b"png"))) as http:
        assert await fetch(http, "https://93.184.215.14/a.png") == b"png"


BOMB = gzip.compress(gzip.compress(bytes(64 << 20), 1), 9)


async def in_one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.mark.parametrize("coding", ["gzip", "gzip, gzip", "GZIP", "br", "identity, deflate"])
async def test_what_is_compressed_is_not_inflated(coding: str) -> None:
    """It was not asked for, and 826 bytes of it may be 419 million."""
    replies = httpx.MockTransport(
        lambda _: httpx.Response(200, content=in_one_piece(BOMB), headers={"content-encoding": coding})
    )
    async with httpx.AsyncClient(transport=replies) as http:
        tracemalloc.start()
        with pytest.raises(NotFetched) as refused:
            await fetch(http, "https://93.184.215.14/clip.mp4")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert not refused.value.again
    assert peak < 8 << 20


@pytest.mark.parametrize("coding", ["identity", "aws-chunked"])
async def test_a_store_that_says_how_it_was_given_the_bytes_gives_them_as_they_are(coding: str) -> None:
    replies = httpx.MockTransport(
        lambda _: httpx.Response(200, content=in_one_piece(b"png"), headers={"content-encoding": coding})
    )
    async with httpx.AsyncClient(transport=replies) as http:
        assert await fetch(http, "https://93.184.215.14/a.png") == b"png"


@pytest.mark.parametrize("announced", [None, "10", str(96 << 20)], ids=["not", "too little", "as it is"])
async def test_no_more_is_read_than_a_medium_may_have(announced: str | None) -> None:
    """Whatever is announced: what is counted is what comes."""
    came, asked = 0, []

    async def too_much() -> AsyncIterator[bytes]:
        nonlocal came
        for _ in range(96):
            came += 1 << 20
            yield bytes(1 << 20)

    async def make_room(size: int) -> None:
        asked.append(size)

    headers = {} if announced is None else {"content-length": announced}
    replies = httpx.MockTransport(lambda _: httpx.Response(200, content=too_much(), headers=headers))
    async with httpx.AsyncClient(transport=replies) as http:
        with pytest.raises(NotFetched, match="more than 67108864 bytes") as refused:
            await fetch(http, "https://93.184.215.14/clip.mp4", make_room=make_room)
    assert not refused.value.again, "it will be no smaller"
    assert came == media.MAXIMUM_MEDIUM_BYTES + (1 << 20), "the piece that is too much is the last one read"
    assert max(asked) <= media.MAXIMUM_MEDIUM_BYTES


async def test_room_is_made_for_what_is_announced_and_for_the_most_when_nothing_is() -> None:
    asked: list[int] = []

    async def make_room(size: int) -> None:
        asked.append(size)

    async def unannounced() -> AsyncIterator[bytes]:
        yield b"png"

    replies = iter([httpx.Response(200, content=b"png"), httpx.Response(200, content=unannounced())])
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(replies))) as http:
        for _ in range(2):
            assert await fetch(http, "https://93.184.215.14/a.png", make_room=make_room) == b"png"
    assert asked == [3, media.MAXIMUM_MEDIUM_BYTES]


@pytest.mark.parametrize("url", ["https://cdn.example.com/a.png?sig=b%2Fc", "https://93.184.215.14/a.png"])
def test_an_address_that_may_be_handed_on(url: str) -> None:
    assert is_plain(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.example.com/a.png", "javascript:alert(1)", "https://user:secret@cdn.example.com/", "https://",
        "https://localhost/a.png", "https://printer.local/a.png", "https://10.0.0.1/a.png", "https://127.1/a.png",
        "https://0x7f.0x1/a.png", "https://2130706433/a.png", "https://[::1]/a.png", "https://[::1/a.png",
        "https://cdn.example.com/a b", "https://cdn.example.com/\n", "https://cdn.example.com/ä.png",
        "https://cdn.example.com/" + "a" * 3000,
    ],
)  # fmt: skip
def test_an_address_that_is_handed_on_to_nobody(url: str) -> None:
    assert not is_plain(url)
