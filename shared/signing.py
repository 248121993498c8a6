"""Signed texts: cursors, quotes, media addresses and RunPod's webhook capability, all by one mechanism.

A secret is `keyid:base64`; several may be given, comma-separated: the first signs, all verify, so keys can rotate.
Every purpose has a key of its own, derived by HMAC, so a cursor can never pass for a webhook token.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from shared.errors import ConfigurationRefused, InvalidToken

MINIMUM_SECRET_BYTES = 32
_MAC_BYTES = 16  # 128 bits: unguessable, and short enough for a path


def parse_secrets(text: str) -> dict[str, bytes]:
    """Read `keyid:base64[,keyid:base64…]`.

    Raises:
        ConfigurationRefused: a part is not `keyid:base64`, or a secret is shorter than 32 bytes.
    """
    secrets: dict[str, bytes] = {}
    for part in text.split(","):
        key_id, _, encoded = part.strip().partition(":")
        try:
            secret = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            secret = b""
        if not key_id.isalnum() or len(secret) < MINIMUM_SECRET_BYTES:
            raise ConfigurationRefused(
                "TWIN_SECRET must be keyid:base64 with at least 32 random bytes (several, comma-separated, to rotate);"
                " make one with: python -c \"import base64,os;print('k1:'+base64.b64encode(os.urandom(32)).decode())\""
            )
        secrets[key_id] = secret
    return secrets


def encode(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The reverse of `encode`.

    Raises:
        InvalidToken: the text is not URL-safe base64.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidToken("This token is malformed.") from error


class Signer:
    """Signs and verifies texts for one purpose."""

    def __init__(self, secrets: Mapping[str, bytes], *, purpose: str) -> None:
        """Derive this purpose's keys; the first secret signs."""
        self._keys = {
            key_id: hmac.digest(secret, b"twin:" + purpose.encode(), hashlib.sha256)
            for key_id, secret in secrets.items()
        }
        self._signing_key_id = next(iter(self._keys))

    def _mac(self, key_id: str, payload: bytes) -> bytes:
        return hmac.digest(self._keys[key_id], payload, hashlib.sha256)[:_MAC_BYTES]

    def sign(self, payload: bytes) -> str:
        """A token `keyid.payload.mac` that carries the payload in the open."""
        key_id = self._signing_key_id
        return f"{key_id}.{encode(payload)}.{encode(self._mac(key_id, payload))}"

    def verify(self, token: str) -> bytes:
        """The payload of a token that this deployment signed for this purpose.

        Raises:
            InvalidToken: malformed, forged, signed for another purpose or by a key that was retired.
        """
        parts = token.split(".")
        if len(parts) != 3 or parts[0] not in self._keys:
            raise InvalidToken("This token was not issued here.")
        payload, mac = decode(parts[1]), decode(parts[2])
        if not hmac.compare_digest(mac, self._mac(parts[0], payload)):
            raise InvalidToken("This token was not issued here.")
        return payload
