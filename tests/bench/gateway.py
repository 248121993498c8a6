"""`python -m tests.bench.gateway PORT KEY`: the local RunPod in instant mode, a process of its own, until SIGTERM.

Every job is completed as it arrives and its webhook goes out at once; RunPod's rate limits are lifted.
"""

import asyncio
import signal
import socket
import sys

import uvloop

from tests.local.runpod.__main__ import HOST, server_for
from tests.local.runpod.endpoints import Canned
from tests.local.runpod.platform import Platform
from tests.local.runpod.rules import NO_LIMITS, Rules

ENDPOINT = "instant"
OUTPUT = {"text": "The sea is wide, and it was here before us."}


async def serve(listener: socket.socket, api_key: str) -> None:
    """Serve until a signal comes."""
    platform = Platform(rules=Rules(api_key=api_key, limits=NO_LIMITS, calls_kept=1, webhook_attempts_kept=1))
    platform.add_endpoint(ENDPOINT, canned=Canned(lambda _: OUTPUT))
    server = server_for(platform)

    def leave() -> None:
        platform.close()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    await server.serve(sockets=[listener])


def main() -> None:
    """Listen and serve."""
    listener = socket.create_server((HOST, int(sys.argv[1])))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener, sys.argv[2]))


if __name__ == "__main__":
    main()
