"""Who is asking: a Clerk session token, as a Bearer or in the page's cookie, verified the same way everywhere.

http.md, Clerk. Locally the stack signs its own tokens with a local JWKS, so this very code runs there too; only then
does a token's `role` count. In production administrators are named by TWIN_ADMINS.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import jwt
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from api.errors import Forbidden, NotSignedIn
from api.jwks import KeySet
from api.settings import ApiSettings
from api.state import State, state_of

SESSION_COOKIE = "__Host-session"
CLERK_COOKIE = "__session"
"""What Clerk's own script keeps on the page's domain: the same token, in a cookie that is less guarded than ours."""
MAXIMUM_TOKEN_CHARACTERS = 8192
LEEWAY_SECONDS = 5
REQUIRED_CLAIMS = ["exp", "iat", "nbf", "iss", "sub", "sid"]
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_bearer = HTTPBearer(auto_error=False, scheme_name="session", description="A Clerk session token.")


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever asks. `actor`: the member of staff who is signed in as this person, if that is so."""

    user_id: str
    session_id: str
    actor: str | None
    is_admin: bool


class Verifier:
    """Checks session tokens against the issuer's keys and our expectations."""

    def __init__(self, settings: ApiSettings, keys: KeySet) -> None:
        """Expect the issuer and the origins that the settings name."""
        self._keys = keys
        self._issuer = settings.clerk_issuer
        self._parties = settings.authorized_parties
        self._admins = frozenset(settings.admins)
        self._local = settings.mode == "local"

    async def verify(self, token: str) -> Person:
        """The person of a session token.

        Raises:
            NotSignedIn: malformed, forged, expired, or for somebody else's front end.
            Unavailable: the issuer's keys cannot be had.
        """
        if len(token) > MAXIMUM_TOKEN_CHARACTERS:
            raise NotSignedIn("This is not a session token of ours.")
        try:
            header = jwt.get_unverified_header(token)
            key_id = header.get("kid")
            if header.get("alg") != "RS256" or not isinstance(key_id, str):
                raise NotSignedIn("Session tokens are signed with RS256 and name their key.")
            claims = jwt.decode(
                token,
                await self._keys.key(key_id),
                algorithms=["RS256"],
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS, "verify_aud": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise NotSignedIn("This session token has expired; fetch a fresh one.") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise NotSignedIn("This session token does not verify.") from error
        return self._person(claims)

    def _person(self, claims: dict[str, Any]) -> Person:
        party, act = claims.get("azp"), claims.get("act")
        if not isinstance(party, str) or party not in self._parties:
            raise NotSignedIn("This session was made for another front end.")
        if claims.get("sts") == "pending":
            raise NotSignedIn("This session is not complete: finish signing in first.")
        user_id, session_id = claims["sub"], claims["sid"]
        if not isinstance(session_id, str) or not 1 <= len(user_id) <= 255 or not user_id.isprintable():
            raise NotSignedIn("This session token does not name a person.")
        actor = act.get("sub") if isinstance(act, dict) else None
        if act is not None and not isinstance(actor, str):
            raise NotSignedIn("This session token does not say who acts.")
        by_role = self._local and claims.get("role") == "admin"
        return Person(
            user_id=user_id,
            session_id=session_id,
            actor=actor,
            is_admin=by_role or user_id in self._admins,
        )


async def person_of(request: Request, state: State) -> Person:
    """Whoever sends this request; the Authorization header wins over the cookie.

    Raises:
        NotSignedIn: neither carries a session that verifies.
        Forbidden: the cookie came along with an unsafe request from another site.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return await state.verifier.verify(token.strip())
    cookie = request.cookies.get(SESSION_COOKIE) or request.cookies.get(CLERK_COOKIE)
    if cookie is None:
        raise NotSignedIn("Sign in first: send a session token as Authorization: Bearer.")
    require_same_origin(request)
    return await state.verifier.verify(cookie)


def require_same_origin(request: Request) -> None:
    """Refuse an unsafe request that a browser sends from another site.

    Raises:
        Forbidden: neither Sec-Fetch-Site nor Origin says that it comes from our own page.
    """
    if request.method in _SAFE_METHODS:
        return
    site = request.headers.get("sec-fetch-site")
    ours = request.headers.get("origin") == state_of(request).settings.public_url
    if not (ours if site is None else site in ("same-origin", "none")):
        raise Forbidden("This request came from another site.")


async def require_person(request: Request, _: Annotated[object, Security(_bearer)]) -> Person:
    """Let only signed-in people through."""
    return await person_of(request, state_of(request))


async def require_admin(person: Annotated[Person, Depends(require_person)]) -> Person:
    """Let only administrators through, and nobody who is signed in as somebody else."""
    if not person.is_admin or person.actor is not None:
        raise Forbidden("Only administrators of this deployment may do this.")
    return person


SignedIn = Annotated[Person, Depends(require_person)]
Administrator = Annotated[Person, Depends(require_admin)]
