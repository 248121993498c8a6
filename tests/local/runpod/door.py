"""The way in for tests: an httpx client of a platform in the same process."""

import httpx

from tests.local.runpod.app import Gateway
from tests.local.runpod.platform import Platform

BASE_URL = "http://runpod.test/v2"


def transport(platform: Platform) -> httpx.ASGITransport:
    """Make a transport for whatever client talks to RunPod, ours for one."""
    return httpx.ASGITransport(Gateway(platform, in_process=True))


def client(platform: Platform) -> httpx.AsyncClient:
    """Make a client with the right key; paths are relative to `/v2`, as in `client.post("/text/run", json=…)`."""
    headers = {"authorization": f"Bearer {platform.rules.api_key}"}
    return httpx.AsyncClient(transport=transport(platform), base_url=BASE_URL, headers=headers)
