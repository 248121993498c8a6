"""The production app plus what only a local world has: sessions for whomever one likes.

Production never mounts this, so there `POST /v1/dev/sessions` is a 404 like any other unknown path.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from api.__main__ import serve
from api.app import create_app
from api.settings import ApiSettings
from api.web.session import set_session_cookie
from shared.errors import ConfigurationRefused
from shared.settings import read
from tests.local.issuer import ISSUER_URL, SESSION_SECONDS, Issuer
from tests.local.seed import DEMO_USER


class LocalSettings(ApiSettings):
    """What the local app is told besides: where the dev issuer's key is."""

    issuer_key: Path = Field(validation_alias="TWIN_LOCAL_ISSUER_KEY")


class SessionRequest(BaseModel):
    """Whose session, and whether it is an administrator's."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:@-]+$", examples=["user_demo"])
    role: Literal["admin"] | None = None


class Session(BaseModel):
    """A token for `Authorization: Bearer`; the cookie of the reply carries the same."""

    token: str
    expires_at: datetime


def sessions(issuer: Issuer, *, authorized_party: str) -> APIRouter:
    """The route that signs anybody in."""
    router = APIRouter(tags=["dev"])

    @router.post("/v1/dev/sessions", status_code=201, operation_id="createDevSession")
    async def create_session(asked: SessionRequest, response: Response) -> Session:
        """Sign in as anybody. Only in the local world."""
        token, expires_at = issuer.token(asked.user_id, authorized_party=authorized_party, role=asked.role)
        set_session_cookie(response, token, lifetime_seconds=SESSION_SECONDS)
        return Session(token=token, expires_at=datetime.fromtimestamp(expires_at, UTC))

    @router.post("/session/demo", include_in_schema=False)
    async def continue_as_demo_person() -> RedirectResponse:
        """The button on the page: sign in as the demo person, and go in."""
        token, _ = issuer.token(DEMO_USER, authorized_party=authorized_party)
        response = RedirectResponse("/", 303)
        set_session_cookie(response, token, lifetime_seconds=SESSION_SECONDS)
        return response

    return router


def create_local_app(settings: ApiSettings, issuer: Issuer) -> FastAPI:
    """The app that production runs, with the dev issuer's route."""
    app = create_app(settings)
    app.include_router(sessions(issuer, authorized_party=settings.public_url))
    return app


def main() -> int:
    """Serve until SIGTERM; the exit codes of `python -m api`."""
    try:
        settings = read(LocalSettings)
    except ConfigurationRefused as refusal:
        print(f"The API does not start: {refusal.detail}", file=sys.stderr)
        return 2
    if settings.mode != "local" or settings.clerk_issuer != ISSUER_URL:
        print("The API does not start: dev sessions are for the local world with its own issuer.", file=sys.stderr)
        return 2
    return serve(create_local_app(settings, Issuer.at(settings.issuer_key)), settings)


if __name__ == "__main__":
    sys.exit(main())
