"""`python -m api`: serve the API until SIGTERM."""

import sys

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from shared import log
from shared.errors import ConfigurationRefused
from shared.settings import read

DRAIN_SECONDS = 15


def serve(app: FastAPI, settings: ApiSettings) -> int:
    """Serve until SIGTERM; return 3 when it could not start, else 0."""
    log.configure(settings, process="api")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,  # paths carry capabilities; api/requests.py logs the route instead
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    server.run()
    return 0 if server.started else 3


def main() -> int:
    """Return the exit code: 2 when the settings are refused, 3 when it could not start, else 0."""
    try:
        settings = read(ApiSettings)
    except ConfigurationRefused as error:
        print(f"The API does not start: {error.detail}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    return serve(create_app(settings), settings)


if __name__ == "__main__":
    sys.exit(main())
