"""The parts that are measured, each a process of its own on 127.0.0.1: started, waited for, and stopped again."""

import base64
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGTERM
from subprocess import Popen, TimeoutExpired
from uuid import uuid4

import httpx
import orjson

from tests.bench import gateway
from tests.bench.bare import Told
from tests.bench.ground import Ground, open_ground
from tests.bench.options import BenchFailed, Options
from tests.bench.people import account
from tests.bench.programs import last_words
from tests.local import leashed, valkey
from tests.local.issuer import ISSUER_URL, Issuer, serve_jwks

_START_SECONDS = 30
_STOP_SECONDS = 15
_KEY = "bench-key"


@dataclass(frozen=True, slots=True)
class Target:
    """What takes submits: its door, one bearer for each person, its database, its processes by name."""

    name: str
    url: str
    bearers: Sequence[str]
    database_url: str
    processes: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Stack(Ground):
    """The world around: Postgres, Valkey, the gateway and the issuer."""

    options: Options
    bell: valkey.Running
    issuer: Issuer
    jwks_url: str
    gateway_url: str
    gateway: Popen[bytes]

    def around(self) -> dict[str, Sequence[int]]:
        """The processes that every target uses."""
        return {
            "gateway": [self.gateway.pid],
            "postgres": [self.server.process.pid],
            "valkey": [self.bell.process.pid],
        }


@contextmanager
def open_stack(folder: Path, options: Options) -> Iterator[Stack]:
    """Start the world around in that folder. BenchFailed when a part does not start."""
    with ExitStack() as parts:
        ground = parts.enter_context(open_ground(folder))
        bell = valkey.run()
        parts.callback(bell.stop)
        key = folder / "issuer.pem"
        jwks_url = parts.enter_context(serve_jwks(key))
        port = leashed.free_port()
        url = f"http://127.0.0.1:{port}/v2"
        told = [sys.executable, "-m", "tests.bench.gateway", str(port), _KEY]
        running = _start(folder, "gateway", told, _answers(f"http://127.0.0.1:{port}/healthz"))
        parts.enter_context(_running([running]))
        server, databases = ground.server, ground.databases
        yield Stack(folder, server, databases, options, bell, Issuer.at(key), jwks_url, url, running.process)


@contextmanager
def product(stack: Stack, database_url: str, *, profiles: Path | None = None) -> Iterator[Target]:
    """Our API and worker over a database; with `profiles` under cProfile, written to that folder when they end."""
    port = leashed.free_port()
    url = f"http://127.0.0.1:{port}"
    told = {
        "PATH": os.environ.get("PATH", ""),
        "TWIN_MODE": "local",
        "DATABASE_URL": database_url,
        "REDIS_URL": stack.bell.url,
        "TWIN_SECRET": "local:" + base64.b64encode(os.urandom(32)).decode(),
        "PUBLIC_URL": url,
        "STORAGE_URL": (stack.folder / "media").as_uri(),
        "TWIN_QUEUE": f"bench:{uuid4().hex[:8]}",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "info",
        "PORT": str(port),
        "CLERK_ISSUER": ISSUER_URL,
        "CLERK_JWKS_URL": stack.jwks_url,
    }
    worker = {
        **told,
        "RUNPOD_API_KEY": _KEY,
        "RUNPOD_BASE_URL": stack.gateway_url,
        "TWIN_RUN_ALLOWANCE": "1000000",
        "TWIN_STATUS_ALLOWANCE": "1000000",
    }
    worker |= {f"RUNPOD_ENDPOINT_{kind}": gateway.ENDPOINT for kind in ("TEXT", "IMAGE", "MODIFY", "VIDEO")}
    folder = stack.folder
    api = _start(folder, "api", _python("api", "api", profiles), _answers(f"{url}/readyz"), told)
    workers = [
        _start(folder, name, _python("worker", name, profiles), _says(folder / f"{name}.log", "worker.ready"), worker)
        for name in (f"worker-{number}" for number in range(1, stack.options.workers + 1))
    ]
    with _running([api, *workers]):
        processes = {"api": [api.process.pid], "worker": [part.process.pid for part in workers]}
        people = range(stack.options.people)
        bearers = [stack.issuer.token(account(number), authorized_party=url)[0] for number in people]
        yield Target("ours", url, bearers, database_url, {**processes, **stack.around()})


@contextmanager
def bare(stack: Stack, database_url: str) -> Iterator[Target]:
    """The bare script over a database."""
    port = leashed.free_port()
    url = f"http://127.0.0.1:{port}"
    told = Told(port, database_url, stack.bell.url, stack.gateway_url, _KEY, gateway.ENDPOINT)
    argv = [sys.executable, "-m", "tests.bench.bare", orjson.dumps(asdict(told)).decode()]
    script = _start(stack.folder, "bare", argv, _answers(f"{url}/readyz"))
    with _running([script]):
        bearers = [account(number) for number in range(stack.options.people)]
        yield Target("bare", url, bearers, database_url, {"bare": [script.process.pid], **stack.around()})


def _python(module: str, name: str, profiles: Path | None) -> list[str]:
    if profiles is None:
        return [sys.executable, "-m", module]
    return [sys.executable, "-m", "tests.bench.profiled", str(profiles / f"{name}.profile"), module]


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    process: Popen[bytes]
    log: Path
    ready: Callable[[], bool]

    def refuse_if_ended(self, when: str) -> None:
        if self.process.poll() is not None:
            raise BenchFailed(f"{self.name} ended {when}. Its last words:\n{last_words(self.log)}")


@contextmanager
def _running(parts: Sequence[_Part]) -> Iterator[None]:
    """Wait for parts that were started side by side, and stop them in the end; all have to live until then."""
    try:
        deadline = time.monotonic() + _START_SECONDS
        for part in parts:
            while not part.ready():
                part.refuse_if_ended("before it was ready")
                if time.monotonic() > deadline:
                    raise BenchFailed(f"{part.name} did not start. Its last words:\n{last_words(part.log)}")
                time.sleep(0.05)
        yield
        for part in parts:
            part.refuse_if_ended("while it was measured")
    finally:
        for part in parts:
            part.process.terminate()
        for part in parts:
            # Asked once: a second SIGTERM would cut the drain short.
            with suppress(TimeoutExpired):
                part.process.wait(_STOP_SECONDS)
            leashed.stop(part.process, SIGTERM, grace_seconds=0)


def _start(
    folder: Path,
    name: str,
    argv: Sequence[str],
    ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
) -> _Part:
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = leashed.start(leashed.Command(argv, environment), output)
    return _Part(name, process, log, ready)


def _answers(url: str) -> Callable[[], bool]:
    def answers() -> bool:
        try:
            return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    return answers


def _says(log: Path, words: str) -> Callable[[], bool]:
    return lambda: words in log.read_text(errors="replace")
