"""`make run`: the whole product and the outside world it needs, on one machine.

Order of starting: Postgres, Valkey and the RunPod gateway at once; migrations and the demo person; API and worker.
Order of stopping: API and worker (they drain), the gateway, then what they wrote to. Whatever the user's settings
bring (DATABASE_URL, REDIS_URL, RUNPOD_API_KEY, CLERK_ISSUER) is used instead and nothing local started in its place.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import asyncpg
import httpx

from shared.schema import SchemaError
from tests.local import issuer, leashed, postgres, valkey
from tests.local.folder import RUNPOD_URL, Folder
from tests.local.seed import prepare
from tests.local.supervisor import Part, PartFailed, Supervisor
from tests.local.surroundings import ENDPOINTS, OwnHandler, SettingsRefused, Surroundings
from tests.local.welcome import welcome

_HOST = "127.0.0.1"
# The worker drains for up to 20 s by itself (TWIN_DRAIN_SECONDS).
_PRODUCT_GRACE_SECONDS = 22
# A handler that loads longer than this before it asks for work is served like a cold start, not waited for.
_HANDLER_PATIENCE_SECONDS = 30
_STOP_ORDER = (("api", "worker"), ("runpod",), ("valkey", "postgres"))


@dataclass(frozen=True, slots=True)
class World:
    """A world in one folder, on one port."""

    surroundings: Surroundings
    own_handlers: Sequence[OwnHandler]
    folder: Folder
    supervisor: Supervisor

    @property
    def url(self) -> str:
        """Where people find the page."""
        return f"http://{_HOST}:{self.surroundings.port}"

    def run(self) -> None:
        """Start everything, say so, and stay until asked to stop. PartFailed when a part does not start."""
        refuse_taken_port(self.surroundings.port)
        for name in self.folder.end_leftovers():
            self.supervisor.say(f"ended {name}, left over from a world that was killed here")
        try:
            with self._issuer() as sign_in:
                local, outside = self._outside()
                self.supervisor.start(*outside)
                self.supervisor.wait(*outside)
                settings = self.surroundings.with_local({**local, **sign_in})
                self._prepare(settings["DATABASE_URL"])
                product = self._product(settings)
                self.supervisor.start(*product)
                self.supervisor.wait(*product)
                sign_in_here = not self.surroundings.brings_issuer
                self.supervisor.proclaim(welcome(self.url, self.folder.path, sign_in=sign_in_here))
                self.supervisor.watch()
        finally:
            self.supervisor.say("stopping")
            self.supervisor.stop(*_STOP_ORDER)
            self.supervisor.say("stopped")

    @contextmanager
    def _issuer(self) -> Iterator[dict[str, str]]:
        if self.surroundings.brings_issuer:
            yield {}
            return
        key = self.folder.part("secrets") / "issuer.pem"
        with issuer.serve_jwks(key) as jwks_url:
            yield {
                "CLERK_ISSUER": issuer.ISSUER_URL,
                "CLERK_JWKS_URL": jwks_url,
                "CLERK_AUTHORIZED_PARTIES": self.url,
                "TWIN_LOCAL_ISSUER_KEY": str(key),
            }

    def _outside(self) -> tuple[dict[str, str], list[Part]]:
        given = self.surroundings
        settings = {
            "TWIN_MODE": "local",
            "TWIN_SECRET": self.folder.signing_secret(),
            "PUBLIC_URL": self.url,
            "STORAGE_URL": self.folder.part("media").as_uri(),
            "LOG_FORMAT": "console",
            "PORT": str(given.port),
        }
        parts = []
        if not given.brings_postgres:
            part, settings["DATABASE_URL"] = self._postgres()
            parts.append(part)
        if not given.brings_redis:
            part, settings["REDIS_URL"] = self._valkey()
            parts.append(part)
        if not given.brings_runpod:
            part, runpod = self._runpod()
            parts.append(part)
            settings.update(runpod)
        return settings, parts

    def _postgres(self) -> tuple[Part, str]:
        cluster = postgres.Cluster(self.folder.path / "postgres", postgres.embedded(), self.folder.secret("postgres"))
        try:
            cluster.create()
        except (OSError, postgres.PostgresRefused) as error:
            raise PartFailed(f"postgres did not start: {error}") from error
        port = leashed.free_port()
        command = cluster.command(port, postgres.DURABLE)
        return Part("postgres", command, cluster.ready, quiet=True), cluster.url(port)

    def _valkey(self) -> tuple[Part, str]:
        port = leashed.free_port()
        password = self.folder.secret("valkey")
        command = valkey.command(port, folder=self.folder.part("valkey"), password=password)
        part = Part("valkey", command, lambda _: valkey.answers(port), quiet=True)
        return part, f"redis://:{password}@{_HOST}:{port}/0"

    def _runpod(self) -> tuple[Part, dict[str, str]]:
        port = leashed.free_port()
        key = self.folder.secret("runpod")
        argv = [sys.executable, "-m", "tests.local.runpod", "--port", str(port), "--api-key", key]
        site = f"http://{_HOST}:{port}"
        endpoints = {name: name.rpartition("_")[2].lower() for name in ENDPOINTS}
        own = {handler.type: handler.file for handler in self.own_handlers}
        for endpoint_id in endpoints.values() if own else ():
            served = f"{endpoint_id}={own[endpoint_id]}" if endpoint_id in own else endpoint_id
            argv += ["--endpoint", served]
        self.folder.note(RUNPOD_URL, site)
        give_up_at = time.monotonic() + _HANDLER_PATIENCE_SECONDS

        def ready(_: int) -> bool:
            loading = bool(own) and time.monotonic() < give_up_at
            return _is_ok(f"{site}/healthz" if loading else f"{site}/v2/text/health", key)

        return Part("runpod", leashed.Command(argv), ready), {
            "RUNPOD_API_KEY": key,
            "RUNPOD_BASE_URL": f"{site}/v2",
            **endpoints,
        }

    def _prepare(self, database_url: str) -> None:
        try:
            applied = asyncio.run(prepare(database_url, demo=not self.surroundings.brings_issuer))
        except (OSError, ValueError, SchemaError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise PartFailed(f"the database could not be migrated: {str(error) or type(error).__name__}") from error
        for name in applied:
            self.supervisor.say(f"applied {name}")

    def _product(self, settings: dict[str, str]) -> list[Part]:
        ready = f"{self.url}/readyz"
        # RunPod's key exists in the worker alone.
        for_api = {name: value for name, value in settings.items() if name != "RUNPOD_API_KEY"}
        app = "api" if self.surroundings.brings_issuer else "tests.local.api"
        api = leashed.Command([sys.executable, "-m", app], for_api, orphaned=SIGKILL)
        worker = leashed.Command([sys.executable, "-m", "worker"], settings, orphaned=SIGKILL)
        # The worker has no door to knock at; that it still lives once the API answers is what we wait for.
        return [
            Part("api", api, lambda _: _is_ok(ready), _PRODUCT_GRACE_SECONDS),
            Part("worker", worker, lambda _: True, _PRODUCT_GRACE_SECONDS),
        ]


def refuse_taken_port(port: int) -> None:
    """SettingsRefused when somebody listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise SettingsRefused(
                f"port {port} cannot be had ({error.strerror}); another one: make run PORT={port % 65535 + 1}"
            ) from error


def _is_ok(url: str, key: str | None = None) -> bool:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return httpx.get(url, headers=headers, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def open_world(clone: Path, own_handlers: Sequence[OwnHandler] = (), *, colours: bool) -> World:
    """Read the settings and take the folder. SettingsRefused or FolderInUse say what is in the way."""
    surroundings = Surroundings.read(clone)
    if own_handlers and surroundings.brings_runpod:
        raise SettingsRefused("HANDLER is for the local RunPod, and RUNPOD_API_KEY says to use RunPod's own: drop one")
    refuse_taken_port(surroundings.port)
    folder = Folder.open(surroundings.folder)
    return World(surroundings, own_handlers, folder, Supervisor(folder, colours=colours))
