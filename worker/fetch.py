"""Fetching an output that a worker left behind an address, without being led to a private one (http.md, Other doors).

The name is resolved once; every answer must be a public unicast address; the connection goes to the checked address.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx

from shared.certificates import authorities
from worker import cookies
from worker.media import MAXIMUM_MEDIUM_BYTES

TOTAL_TIMEOUT_SECONDS = 60
FETCH_TIMEOUT = httpx.Timeout(connect=5, read=20, write=5, pool=5)
MAXIMUM_REDIRECTS = 3
MAXIMUM_URL_CHARACTERS = 2048
# What a store may say of something that it is about to have: a replica or a cache that lags, a limit, an illness.
_AGAIN = {403, 404, 408, 425, 429}

_ADDRESS = re.compile(r"https://[!-~]+")
_UNCODED = {"identity", "aws-chunked"}
"""What stores say of bytes that are as they are: the second is how they were put there."""
_PUBLIC_NAME = re.compile(r"([a-z0-9_-]+\.)+(?!local|internal|localhost)[a-z][a-z0-9-]*", re.IGNORECASE)

MakeRoom = Callable[[int], Awaitable[None]]
"""Waits until there is memory for so many bytes."""


class NotFetched(Exception):
    """The address cannot be fetched now (`again` is True) or must not be fetched at all."""

    def __init__(self, reason: str, *, again: bool) -> None:
        """Say why."""
        super().__init__(reason)
        self.again = again


# Python learns of such networks with its releases, and some it counts as public by what they were meant for.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # for protocols; some clouds keep their metadata here
        "192.88.99.0/24",  # relays of 6to4
        "64:ff9b:1::/48",  # IPv4 translated, of a private network
        "2001::/23",  # for protocols; Teredo in it is judged by the address inside
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fec0::/10",  # sites, of old
    )
]


def is_public(address: str) -> bool:
    """Whether an IP address is public unicast, also when it hides inside an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        packed = ip.packed
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and (packed[:12] == bytes(12) or packed[:12] == bytes.fromhex("0064ff9b") + bytes(8)):
            inner = ipaddress.IPv4Address(packed[12:])
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


async def _resolve(host: str, port: int) -> str:
    try:
        answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = f"{host} does not resolve"
        raise NotFetched(reason, again=True) from error
    addresses = [str(answer[4][0]) for answer in answers]
    if not addresses or not all(is_public(address) for address in addresses):
        reason = f"{host} is not a public address"
        raise NotFetched(reason, again=False)
    return addresses[0]


async def _anyway(_: int) -> None:
    """No need to wait."""


def is_plain(url: str) -> bool:
    """Whether this is an https address and nothing more, whose host is a public address or looks like a public name."""
    if len(url) > MAXIMUM_URL_CHARACTERS or not _ADDRESS.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or "@" in parts.netloc:
            return False
        return bool(_PUBLIC_NAME.fullmatch(host)) or is_public(host)
    except ValueError:
        return False


def open_outside(*, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for addresses of outputs: without RunPod's key, and without a memory.

    All hosts are known to it by their addresses. A connection that was kept, to a CDN say, would carry the request for
    the next name at that address, for which its certificate was never checked, and which it may refuse with a 421.
    """
    return httpx.AsyncClient(
        transport=transport,
        verify=authorities(),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=0),
        cookies=cookies.none_kept(),
        follow_redirects=False,
        trust_env=False,
    )


async def fetch(http: httpx.AsyncClient, url: str, *, make_room: MakeRoom = _anyway) -> bytes:
    """The bytes behind an https address, following a few redirects, each checked like the first.

    `make_room` is waited for before anything of it is read.

    Raises:
        NotFetched: refused, unreachable, too large, too slow, or not a 200.
    """
    try:
        async with asyncio.timeout(TOTAL_TIMEOUT_SECONDS):
            return await _follow(http, url, make_room)
    except TimeoutError as error:
        reason = f"not here within {TOTAL_TIMEOUT_SECONDS} s"
        raise NotFetched(reason, again=True) from error
    except (ValueError, httpx.InvalidURL) as error:
        reason = "not an address"
        raise NotFetched(reason, again=False) from error


async def _follow(http: httpx.AsyncClient, url: str, make_room: MakeRoom) -> bytes:
    for _ in range(MAXIMUM_REDIRECTS + 1):
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
            reason = "only plain https addresses are fetched"
            raise NotFetched(reason, again=False)
        port = parts.port or 443
        address = await _resolve(parts.hostname, port)
        request = http.build_request(
            "GET",
            httpx.URL(url).copy_with(host=address, port=port),
            headers={"host": parts.netloc, "accept-encoding": "identity"},
            extensions={"sni_hostname": parts.hostname, "timeout": FETCH_TIMEOUT.as_dict()},
        )
        try:
            response = await http.send(request, stream=True)
            try:
                if response.has_redirect_location:
                    url = str(httpx.URL(url).join(response.headers["location"]))
                    continue
                return await _content(response, make_room)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            reason = f"{parts.hostname}: {type(error).__name__}"
            raise NotFetched(reason, again=True) from error
    reason = "too many redirects"
    raise NotFetched(reason, again=False)


async def _content(response: httpx.Response, make_room: MakeRoom) -> bytes:
    if response.status_code != httpx.codes.OK:
        reason = f"HTTP {response.status_code}"
        raise NotFetched(reason, again=response.status_code >= 500 or response.status_code in _AGAIN)
    # httpx would inflate a piece of a body whole, before anybody can count: a few hundred bytes may be gigabytes
    coded = {coding.lower() for coding in response.headers.get_list("content-encoding", split_commas=True)} - _UNCODED
    if coded:
        reason = "compressed, which was not asked for"
        raise NotFetched(reason, again=False)
    announced = response.headers.get("content-length", "")
    size = int(announced[:20]) if announced.isascii() and announced.isdigit() else MAXIMUM_MEDIUM_BYTES
    await make_room(min(size, MAXIMUM_MEDIUM_BYTES))
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAXIMUM_MEDIUM_BYTES:
            reason = f"more than {MAXIMUM_MEDIUM_BYTES} bytes"
            raise NotFetched(reason, again=False)
    return bytes(content)
