"""The issuer's public keys: fetched at start, refreshed behind the scenes, never fetched because a forger asked.

One fetch at a time. A key id that we do not know may cause one fetch a minute, whoever sends it; while the issuer is
away its keys are good for another day, and after that (or without JWKS at all) the PEM key of the settings is used.
"""

import asyncio
import time
from collections.abc import Callable

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from api.errors import NotSignedIn, Unavailable
from api.metrics import JWKS_FETCHES

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

REFRESH_SECONDS = 600
COOL_DOWN_SECONDS = 60
STALE_SECONDS = 24 * 3600
FETCH_TIMEOUT_SECONDS = 5
MINIMUM_KEY_BITS = 2048


class KeySet:
    """The keys of one issuer by key id."""

    def __init__(
        self,
        url: str,
        *,
        client: httpx.AsyncClient,
        fallback_pem: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read keys from `url`; `fallback_pem` counts when they are not to be had."""
        self._url = url
        self._client = client
        self._clock = clock
        self._fallback = _from_pem(fallback_pem) if fallback_pem else None
        self._keys: dict[str, RSAPublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def key(self, key_id: str) -> RSAPublicKey:
        """The key of this id.

        Raises:
            NotSignedIn: the issuer has no such key.
            Unavailable: the issuer's keys cannot be had, so nobody can be told apart from a forger.
        """
        if key_id not in self._keys or self._stale():
            await self._fetch_if_cool(key_id)
        if not self._stale():
            found = self._keys.get(key_id)
            if found is None:
                raise NotSignedIn("This session was signed with a key that the issuer does not publish.")
            return found
        if self._fallback is None:
            raise Unavailable("Sessions cannot be checked just now: the issuer's keys cannot be fetched.")
        return self._fallback

    async def keep_fresh(self) -> None:
        """Fetch now and then every ten minutes, or every minute while that fails; runs until cancelled."""
        while True:
            async with self._one_at_a_time:
                fetched = await self._fetch()
            await asyncio.sleep(REFRESH_SECONDS if fetched else COOL_DOWN_SECONDS)

    def _stale(self) -> bool:
        return self._fetched_at is None or self._clock() - self._fetched_at > STALE_SECONDS

    async def _fetch_if_cool(self, key_id: str) -> None:
        async with self._one_at_a_time:
            if key_id in self._keys and not self._stale():
                return
            if self._tried_at is not None and self._clock() - self._tried_at < COOL_DOWN_SECONDS:
                return
            await self._fetch()

    async def _fetch(self) -> bool:
        self._tried_at = self._clock()
        try:
            reply = await self._client.get(self._url, timeout=FETCH_TIMEOUT_SECONDS)
            reply.raise_for_status()
            keys = _read(reply.json())
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
            JWKS_FETCHES.labels("failed").inc()
            log.warning("jwks.unreachable", error=type(error).__name__)
            return False
        JWKS_FETCHES.labels("ok").inc()
        self._keys = keys
        self._fetched_at = self._clock()
        return True


def _read(document: object) -> dict[str, RSAPublicKey]:
    """The usable keys of a JWKS document; ValueError when it is none or has none."""
    entries = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, RSAPublicKey] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or entry.get("kty") != "RSA" or entry.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(entry, algorithm="RS256").key
        except Exception as error:  # whatever is wrong with one entry, the others count
            log.warning("jwks.odd_key", error=type(error).__name__)
            continue
        if isinstance(key, RSAPublicKey) and key.key_size >= MINIMUM_KEY_BITS and isinstance(entry.get("kid"), str):
            keys[entry["kid"]] = key
    if not keys:
        msg = "no RSA signing key in the JWKS document"
        raise ValueError(msg)
    return keys


def _from_pem(pem: str) -> RSAPublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        msg = "the fallback key is not RSA"
        raise TypeError(msg)
    return key
