"""The dev issuer: session tokens shaped like Clerk's, from a key of this folder, and the JWKS to verify them by.

The API verifies them with the verifier that serves Clerk; nothing in it knows of this module.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER_URL = "http://issuer.localhost"
"""A name, not an address: sessions outlive a restart, ports do not."""
KEY_ID = "ins_local"
SESSION_SECONDS = 12 * 3600
JWKS_PATH = "/.well-known/jwks.json"


@dataclass(frozen=True, slots=True)
class Issuer:
    """A private key that signs for ISSUER_URL."""

    key: rsa.RSAPrivateKey

    @classmethod
    def at(cls, path: Path) -> Self:
        """The issuer whose key is in that file (0600, made the first time)."""
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(
                rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            fresh.rename(path)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return cls(key)

    def public_pem(self) -> str:
        """The public half as PEM: the verifier's fallback when the JWKS is away."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def jwks(self) -> dict[str, Any]:
        """The public half, as `/.well-known/jwks.json` says it."""
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**public, "use": "sig", "alg": "RS256", "kid": KEY_ID}]}

    def token(
        self,
        user_id: str,
        *,
        authorized_party: str,
        role: str | None = None,
        now: int | None = None,
        lifetime_seconds: int = SESSION_SECONDS,
        **claims: Any,
    ) -> tuple[str, int]:
        """Sign a session token; return it with its `exp`. Further claims replace the usual ones."""
        issued_at = int(time.time()) if now is None else now
        usual: dict[str, Any] = {
            "v": 2,
            "iss": ISSUER_URL,
            "sub": user_id,
            "sid": f"sess_{token_hex(12)}",
            "azp": authorized_party,
            "iat": issued_at,
            "nbf": issued_at - 10,
            "exp": issued_at + lifetime_seconds,
            "jti": token_hex(10),
            "sts": "active",
            "fva": [0, -1],
        }
        if role is not None:
            usual["role"] = role
        payload = {**usual, **claims}
        headers = {"kid": KEY_ID, "cat": "cl_local"}
        return jwt.encode(payload, self.key, algorithm="RS256", headers=headers), int(payload["exp"])


@contextmanager
def serve_jwks(key_path: Path) -> Iterator[str]:
    """Serve the key's JWKS on a free loopback port; yields its whole URL."""
    handler = _handler(key_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, name="jwks", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{JWKS_PATH}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(key_path: Path) -> type[BaseHTTPRequestHandler]:
    body = json.dumps(Issuer.at(key_path).jwks()).encode()

    class Jwks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == JWKS_PATH
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    return Jwks
