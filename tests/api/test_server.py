"""`python -m api` as production runs it: over TCP, until SIGTERM."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import SECRET
from tests.local.issuer import ISSUER_URL, Issuer, serve_jwks
from tests.local.leashed import free_port

ROOT = Path(__file__).parents[2]
SOON_SECONDS = 20


class Server:
    """One API process and where it listens."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.url = environment["PUBLIC_URL"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> None:
        end = time.monotonic() + SOON_SECONDS
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.communicate()[0]
        raise AssertionError("the API did not become ready")

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=SOON_SECONDS)
        return self.process.returncode, said


@pytest.fixture
def environment(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    port = free_port()
    key = tmp_path / "issuer.pem"
    with serve_jwks(key) as jwks_url:
        yield {
            "TWIN_MODE": "local",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "TWIN_SECRET": SECRET,
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "PORT": str(port),
            "STORAGE_URL": (tmp_path / "media").as_uri(),
            "CLERK_ISSUER": ISSUER_URL,
            "CLERK_JWKS_URL": jwks_url,
            "ISSUER_KEY": str(key),
        }


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[Server]:
    started = Server(environment)
    try:
        started.wait()
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
        assert started.process.stdout is not None
        started.process.stdout.close()


async def test_fifty_megabytes_hear_413_and_not_a_reset(server: Server) -> None:
    size = 50 * 1024 * 1024
    async with httpx.AsyncClient(trust_env=False, timeout=SOON_SECONDS) as client:
        reply = await client.post(f"{server.url}/v1/generations", content=bytes(size))
        assert (reply.status_code, reply.json()["code"]) == (413, "body-too-large")


async def test_sigterm_lets_go_of_streams_and_ends(server: Server, environment: dict[str, str]) -> None:
    issuer = Issuer.at(Path(environment["ISSUER_KEY"]))
    token, _ = issuer.token("user_stream", authorized_party=server.url, role="admin")
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=10) as client:
        grant = {"user_id": "user_stream", "amount": 5, "kind": "promo", "source_ref": "x"}
        assert (await client.post("/v1/admin/grants", json=grant)).status_code == 201
        created = (await client.post("/v1/generations", json={"type": "text", "prompt": "x"})).json()
        async with client.stream("GET", created["urls"]["events"]) as stream:
            lines = stream.aiter_lines()
            assert (await anext(lines)).startswith("retry: ")
            code, said = await asyncio.to_thread(server.stop)
            assert code == 0, said
            assert "Traceback" not in said


def test_bad_settings_end_it_with_a_sentence(environment: dict[str, str]) -> None:
    broken = Server({**environment, "CORS_ORIGINS": "*"})
    said, _ = broken.process.communicate(timeout=SOON_SECONDS)
    assert broken.process.returncode == 2
    assert said.startswith("The API does not start: CORS_ORIGINS")
    assert "Traceback" not in said
