"""An S3 server on this machine (moto's), with one bucket: it can go away and come back with what it kept."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

HOST = "127.0.0.1"
NAME = "twin"
KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_REGION": "us-east-1"}


class Bucket:
    """The server, by its port; `stop` and `start` again what an outage is."""

    def __init__(self) -> None:
        """Start it on a free port, and make the bucket."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(HOST, 0)
        self._server.start()
        self.port = int(self._server.get_host_and_port()[1])
        with httpx.Client(trust_env=False) as http:
            http.put(f"http://{HOST}:{self.port}/{NAME}").raise_for_status()

    @property
    def url(self) -> str:
        """What STORAGE_URL is for it."""
        return f"s3://{NAME}/outputs"

    @property
    def environment(self) -> Mapping[str, str]:
        """What obstore reads to find it."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}"}

    def start(self) -> None:
        """Come back."""
        self._server = ThreadedMotoServer(HOST, self.port)
        self._server.start()

    def stop(self) -> None:
        """Go away."""
        self._server.stop()


@contextmanager
def running() -> Iterator[Bucket]:
    """A bucket until the block ends."""
    bucket = Bucket()
    try:
        yield bucket
    finally:
        bucket.stop()
