"""The parts that are measured, each a process of its own on 127.0.0.1: started, waited for, and stopped again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import Popen

import orjson

from tests.bench import gateway
from tests.bench.bare import Told
from tests.bench.ground import Ground, open_ground
from tests.bench.options import Options
from tests.bench.parts import RUNPOD_KEY, answers, environment, running, says, start
from tests.bench.people import account
from tests.local import leashed, valkey
from tests.local.issuer import ISSUER_URL, Issuer, serve_jwks
from worker.settings import MOST_JOBS


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
        told = [sys.executable, "-m", "tests.bench.gateway", str(port), RUNPOD_KEY]
        gate = start(folder, "gateway", told, answers(f"http://127.0.0.1:{port}/healthz"))
        parts.enter_context(running([gate]))
        server, databases = ground.server, ground.databases
        yield Stack(folder, server, databases, options, bell, Issuer.at(key), jwks_url, url, gate.process)


@contextmanager
def product(stack: Stack, database_url: str, *, profiles: Path | None = None) -> Iterator[Target]:
    """Our API and worker over a database; with `profiles` under cProfile, written to that folder when they end."""
    port = leashed.free_port()
    url = f"http://127.0.0.1:{port}"
    told = environment(stack.folder, database_url=database_url, redis_url=stack.bell.url, public_url=url)
    told |= {"PORT": str(port), "CLERK_ISSUER": ISSUER_URL, "CLERK_JWKS_URL": stack.jwks_url}
    worker = {
        **told,
        "RUNPOD_API_KEY": RUNPOD_KEY,
        "RUNPOD_BASE_URL": stack.gateway_url,
        "TWIN_RUN_ALLOWANCE": "1000000",
        "TWIN_STATUS_ALLOWANCE": "1000000",
        "TWIN_MAX_CONCURRENCY": str(MOST_JOBS),
    }
    worker |= {f"RUNPOD_ENDPOINT_{kind}": gateway.ENDPOINT for kind in ("TEXT", "IMAGE", "MODIFY", "VIDEO")}
    folder = stack.folder
    api = start(folder, "api", _python("api", "api", profiles), answers(f"{url}/readyz"), told)
    workers = [
        start(folder, name, _python("worker", name, profiles), says(folder / f"{name}.log", "worker.ready"), worker)
        for name in (f"worker-{number}" for number in range(1, stack.options.workers + 1))
    ]
    with running([api, *workers]):
        processes = {"api": [api.process.pid], "worker": [part.process.pid for part in workers]}
        people = range(stack.options.people)
        bearers = [stack.issuer.token(account(number), authorized_party=url)[0] for number in people]
        yield Target("ours", url, bearers, database_url, {**processes, **stack.around()})


@contextmanager
def bare(stack: Stack, database_url: str) -> Iterator[Target]:
    """The bare script over a database."""
    port = leashed.free_port()
    url = f"http://127.0.0.1:{port}"
    told = Told(port, database_url, stack.bell.url, stack.gateway_url, RUNPOD_KEY, gateway.ENDPOINT)
    argv = [sys.executable, "-m", "tests.bench.bare", orjson.dumps(asdict(told)).decode()]
    script = start(stack.folder, "bare", argv, answers(f"{url}/readyz"))
    with running([script]):
        bearers = [account(number) for number in range(stack.options.people)]
        yield Target("bare", url, bearers, database_url, {"bare": [script.process.pid], **stack.around()})


def _python(module: str, name: str, profiles: Path | None) -> list[str]:
    if profiles is None:
        return [sys.executable, "-m", module]
    return [sys.executable, "-m", "tests.bench.profiled", str(profiles / f"{name}.profile"), module]
