"""`python -m tests.local.runpod`: the gateway and real SDK workers behind it, until SIGTERM or Ctrl-C.

Point it at your own handler with `--endpoint text=path/to/handler.py`. Prints one line when ready; `--port 0` picks
a free port and the line says which.
"""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from tests.local.runpod.app import Gateway
from tests.local.runpod.fleet import SAMPLES, Crew, Fleet
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import Rules

HOST = "127.0.0.1"
KEEP_ALIVE_SECONDS = 75
DRAIN_SECONDS = 1


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the workers have to go before it does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to us."""
        yield


def say(line: str) -> None:
    """Print one line of the log."""
    print(line, flush=True)


def server_for(platform: Platform) -> Server:
    """Make the HTTP server over a platform; `serve(sockets=[…])` runs it, `should_exit = True` ends it."""
    config = uvicorn.Config(
        Gateway(platform),
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return Server(config)


async def run(crews: list[Crew], *, listener: socket.socket, api_key: str) -> int:
    """Serve until a signal comes (0) or a handler turns out not to start (1), then stop all that was started."""
    rules = Rules(api_key=api_key, worker_lost_seconds=10, calls_kept=100, webhook_attempts_kept=100)
    platform = Platform([crew.endpoint_id for crew in crews], rules=rules)
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    server = server_for(platform)
    fleet = Fleet(platform, url, crews, say=say)
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    leaving = asyncio.create_task(told.wait())
    readiness = asyncio.create_task(_announce_readiness(fleet, crews, url))
    births = asyncio.create_task(fleet.stillborn())
    failed = False
    try:
        fleet.start()
        await asyncio.wait({serving, leaving, births}, return_when=asyncio.FIRST_COMPLETED)
        failed = births.done()
        if failed:
            say(f"local RunPod cannot go on: {births.exception()}")
    finally:
        readiness.cancel()
        leaving.cancel()
        births.cancel()
        platform.close()
        await fleet.stop()
        server.should_exit = True
        await serving
    say("local RunPod has stopped")
    return int(failed)


async def _announce_readiness(fleet: Fleet, crews: list[Crew], url: str) -> None:
    while not fleet.all_seen():
        await asyncio.sleep(0.05)
    names = ", ".join(crew.endpoint_id for crew in crews)
    say(f"local RunPod is ready: {url}/v2, endpoints {names}, {sum(crew.size for crew in crews)} workers")


def crews_from(arguments: list[str], size: int) -> list[Crew]:
    """Read `text=path/to/handler.py`, or `text` for the sample; all four samples by default. Raises ValueError."""
    crews = []
    for argument in arguments or SAMPLES:
        endpoint_id, _, path = argument.partition("=")
        handler = Path(path) if path else SAMPLES.get(endpoint_id)
        if handler is None:
            raise ValueError(f"there is no sample handler {endpoint_id!r}; say {endpoint_id}=path/to/handler.py")
        if not handler.is_file():
            raise ValueError(f"there is no file {handler}")
        if not endpoint_id or not endpoint_id.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{endpoint_id!r} cannot be an endpoint id: letters, digits, - and _ only")
        crews.append(Crew(endpoint_id, handler.resolve(), size))
    if len({crew.endpoint_id for crew in crews}) < len(crews):
        raise ValueError("each endpoint can be given only once")
    return crews


def main() -> None:
    """Read the command line and run. Exits with 1 if the port is taken or a handler does not start, 2 if misspoken."""
    parser = argparse.ArgumentParser(prog="python -m tests.local.runpod", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--port", type=int, default=8100, help="on 127.0.0.1; 0 picks a free one (default 8100)")
    parser.add_argument("--api-key", default=Rules().api_key, help="what clients must send (default %(default)s)")
    parser.add_argument("--endpoint", action="append", default=[], metavar="ID[=HANDLER]", help="may be repeated")
    parser.add_argument("--workers-per-endpoint", type=int, default=1, choices=range(1, 17), metavar="1-16")
    options = parser.parse_args()
    try:
        crews = crews_from(options.endpoint, options.workers_per_endpoint)
    except ValueError as error:
        parser.error(str(error))
    try:
        listener = socket.create_server((HOST, options.port))
    except (OSError, OverflowError) as error:
        sys.exit(f"local RunPod cannot listen on {HOST}:{options.port}: {error}")
    sys.exit(asyncio.run(run(crews, listener=listener, api_key=options.api_key)))


if __name__ == "__main__":
    main()
