"""The real parts every test may ask for: one Postgres a session, one Valkey a worker, a database a module.

The controller starts Postgres and stops it, so it outlives every xdist worker; each part is leashed to its
process, so nothing stays behind after Ctrl-C or worse. TWIN_TEST_DATABASE_URL names another server to use;
`--postgres=15` takes the programs of that version from this machine.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import asyncpg
import pytest
import redis

from shared.database import Pool, prepare_connection
from tests.ledger import invariants
from tests.local import postgres, valkey
from tests.local.databases import Databases, wait_for

# Begun last, one of these would keep one worker busy when the others have nothing left to do.
_LONG = (
    "ledger/test_interleavings.py",
    "world/test_world.py",
    "world/test_handlers.py",
    "local_runpod/test_program.py",
    "local_runpod/test_peers.py",
    "ledger/test_terms.py",
    "ledger/test_machine.py",
    "ledger/test_tampering.py",
    "rls/test_roles.py",
    "chaos/test_kill.py",
)
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is made by mkdtemp
_ROOM = 4 << 30
_SHARED = pytest.StashKey[Databases]()
_CLEAN_UP = pytest.StashKey[list[Callable[[], None]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgres", type=int, metavar="MAJOR", help="use this version's programs, not the embedded")


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    workerinput: dict[str, str] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        config.stash[_SHARED] = Databases(workerinput["server_url"], workerinput["template"], invariants.TRIGGERS)
        return
    template = f"twin_template_{token_hex(8)}"
    elsewhere = os.environ.get("TWIN_TEST_DATABASE_URL")
    if elsewhere:
        config.stash[_SHARED] = Databases(elsewhere, template, invariants.TRIGGERS)
    elif not config.option.collectonly:
        config.stash[_SHARED] = Databases(_start_postgres(config), template, invariants.TRIGGERS)


def _start_postgres(config: pytest.Config) -> str:
    major: int | None = config.getoption("--postgres")
    programs = postgres.embedded() if major is None else postgres.installed(major)
    if programs is None:
        raise pytest.UsageError(f"no Postgres {major} on this machine: its postgres and initdb were not found")
    # So that `timeout` and a cancelled CI run end the session in order, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"twin-tests-{os.getpid()}-", dir=_places()[0]))
    clean_up = config.stash.setdefault(_CLEAN_UP, [])
    clean_up.append(lambda: shutil.rmtree(folder, ignore_errors=True))
    server = postgres.run(postgres.Cluster(folder / "postgres", programs, token_hex(16)), postgres.THROWAWAY)
    clean_up.append(server.stop)
    return server.url


def _places() -> list[Path]:
    """Where the server's data may be, the best first: a database is 340 files, and on a disk they take their time."""
    disk = Path(tempfile.gettempdir())
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        return [_MEMORY, disk]
    return [disk]


def _remove_leftovers() -> None:
    """Remove what sessions left that were killed; their Postgres died with them."""
    for folder in (folder for place in _places() for folder in place.glob("twin-tests-*-*")):
        try:
            os.kill(int(folder.name.split("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, place = Path(__file__).parent, {name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(item.path.relative_to(here).as_posix(), len(_LONG)))


def pytest_collection_finish() -> None:
    """What is there by now stays: the collector need not walk through it again and again."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    shared = node.config.stash[_SHARED]
    node.workerinput["server_url"] = shared.server_url
    node.workerinput["template"] = shared.template


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    if os.environ.get("TWIN_TEST_DATABASE_URL") and _SHARED in config.stash:
        wait_for(config.stash[_SHARED].drop(config.stash[_SHARED].template))
    clean_up = config.stash.get(_CLEAN_UP, [])
    while clean_up:
        clean_up.pop()()


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """The session's Postgres server, and how to make databases on it."""
    return request.config.stash[_SHARED]


@pytest.fixture(scope="module")
def database_url(databases: Databases) -> Iterator[str]:
    """A fresh migrated database for this module."""
    name = wait_for(databases.create())
    yield databases.url(name)
    wait_for(databases.drop(name))


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database for this test that no migration has touched."""
    name = wait_for(databases.create_empty())
    yield databases.url(name)
    wait_for(databases.drop(name))


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool of up to ten connections on the module's database, set up as in production."""
    async with asyncpg.create_pool(database_url, min_size=0, max_size=10, init=prepare_connection) as opened:
        yield opened


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[valkey.Running]:
    """This worker's own Valkey; tests of one worker run one after the other."""
    server = valkey.run()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_url(valkey_server: valkey.Running) -> str:
    """This worker's Valkey, emptied for this module."""
    with redis.Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server.url
