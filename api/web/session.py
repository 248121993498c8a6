"""Who looks at the page: the session cookie, verified as everywhere (`api/auth.py`)."""

from typing import Annotated

from fastapi import Depends, Request, Response

from api.auth import SESSION_COOKIE, Person, person_of
from api.errors import NotSignedIn
from api.state import state_of


def set_session_cookie(response: Response, token: str, *, lifetime_seconds: int) -> None:
    """Keep a session token where scripts and other sites cannot reach it."""
    response.set_cookie(
        SESSION_COOKIE, token, max_age=lifetime_seconds, path="/", secure=True, httponly=True, samesite="lax"
    )


def clear_session_cookie(response: Response) -> None:
    """Forget the session in this browser."""
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


async def visitor(request: Request) -> Person | None:
    """Whoever looks, or None for somebody who is not signed in or no longer."""
    try:
        return await person_of(request, state_of(request))
    except NotSignedIn:
        return None


Visitor = Annotated[Person | None, Depends(visitor)]
