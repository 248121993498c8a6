"""`python -m api`: serve the API until SIGTERM."""

import signal
import sys
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from shared import log
from shared.errors import ConfigurationRefused
from shared.settings import read

DRAIN_SECONDS = 15
"""Requests under way get this long after SIGTERM; event streams end within a second, their clients come back."""


class _Server(uvicorn.Server):
    """uvicorn, which also lets go of event streams when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if hasattr(self._app.state, "twin"):
            self._app.state.twin.hub.close()
        super().handle_exit(sig, frame)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def serve(app: FastAPI, settings: ApiSettings) -> int:
    """Serve an app until SIGTERM; return the exit code: 3 when it could not start, else 0."""
    log.configure(settings, process="api")
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,  # paths carry capabilities; api/requests.py logs the route instead
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    # uvicorn drains on the first signal and then raises it once more, when there is nothing left but to go.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, _leave)
    server = _Server(config, app)
    server.run()
    return 0 if server.started else 3


def main() -> int:
    """Return the exit code: 2 when the settings are refused, 3 when it could not start, else 0."""
    try:
        settings = read(ApiSettings)
    except ConfigurationRefused as refusal:
        print(f"The API does not start: {refusal.detail}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    return serve(create_app(settings), settings)


if __name__ == "__main__":
    sys.exit(main())
