"""Who looks at the page: the session cookie, verified as everywhere (`api/auth.py`)."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request, Response

from api.auth import CLERK_COOKIE, SESSION_COOKIE, Person, person_of
from api.errors import NotSignedIn
from api.settings import ApiSettings
from api.state import state_of


def set_session_cookie(response: Response, token: str, *, lifetime_seconds: int) -> None:
    """Keep a session token where scripts and other sites cannot reach it."""
    response.set_cookie(
        SESSION_COOKIE, token, max_age=lifetime_seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def clear_session_cookie(response: Response) -> None:
    """Forget the session in this browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    response.delete_cookie(CLERK_COOKIE, path="/")


def sign_in_address(settings: ApiSettings) -> str | None:
    """Where a stranger signs in with Clerk, to come back here; None when that is not set up."""
    if settings.sign_in_url is None:
        return None
    joint = "&" if "?" in settings.sign_in_url else "?"
    return f"{settings.sign_in_url}{joint}{urlencode({'redirect_url': settings.public_url + '/'})}"


async def visitor(request: Request) -> Person | None:
    """Whoever looks, or None for somebody who is not signed in or no longer."""
    try:
        return await person_of(request, state_of(request))
    except NotSignedIn:
        return None


Visitor = Annotated[Person | None, Depends(visitor)]
